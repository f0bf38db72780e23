"""The clusters application."""

from django.apps import AppConfig


class ClustersConfig(AppConfig):
    """What is connected, who may see it, and how to reach it."""

    name = "clusters"
