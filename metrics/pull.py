"""One cluster, one window: fetch, roll up, store, move the watermark."""
