"""The types that everything else uses: kinds and fields, rows, windows, rollups."""
