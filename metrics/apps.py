"""The metrics application."""

from django.apps import AppConfig


class MetricsConfig(AppConfig):
    """Numbers over time: pulled, rolled up, stored and queried."""

    name = "metrics"
