"""The metrics application."""

from django.apps import AppConfig


class MetricsConfig(AppConfig):
    """Time series: pulled, rolled up, stored and queried."""

    name = "metrics"
