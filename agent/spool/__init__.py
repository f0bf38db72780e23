"""Minutes kept on disk until they were fetched."""
