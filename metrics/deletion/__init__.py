"""Everything that deletes numbers, and the preview of it."""
