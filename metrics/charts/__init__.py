"""Which panels there are, and their figures."""
