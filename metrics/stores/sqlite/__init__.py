"""The metric store in SQLite files: rows while they are new, sealed column chunks later."""
