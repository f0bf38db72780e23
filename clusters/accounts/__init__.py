"""Sign-in, second factors and their log."""
