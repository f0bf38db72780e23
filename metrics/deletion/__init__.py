"""Everything that deletes metrics, and the preview of it."""
