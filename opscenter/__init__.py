"""Composition: settings, routes, processes, and the pages that mix apps."""
