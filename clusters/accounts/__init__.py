"""Sign-in, second factors and their log; when API tokens were used."""
