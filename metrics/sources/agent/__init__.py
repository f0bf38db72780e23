"""The Ops Center agent as a source."""
