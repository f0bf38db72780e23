"""The clusters application."""

from django.apps import AppConfig


class ClustersConfig(AppConfig):
    """What is connected, who may see it, and how to reach it."""

    name = "clusters"

    def ready(self) -> None:
        """Connect the log of sign-ins."""
        from clusters.accounts import sign_in_log

        sign_in_log.connect()
