"""Celery entry points of pulls and retention."""
