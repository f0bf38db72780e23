"""The panels of charts, and their figures."""
