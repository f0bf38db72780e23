"""Collectors: each reads one kind of machine and returns samples of the catalogue."""
