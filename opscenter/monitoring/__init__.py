"""The centre's own health: readiness, figures for Prometheus, their end points."""
