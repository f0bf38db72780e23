"""The vocabulary of everything else: kinds and fields, rows, windows, roll-ups."""
