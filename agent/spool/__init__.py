"""Minutes stored on disk until they are fetched."""
