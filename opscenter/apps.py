"""The composition application: supervisor, commands and the pages that mix apps."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig


class OpsCenterConfig(AppConfig):
    """Settings, routes, processes."""

    name = "opscenter"

    def ready(self) -> None:
        """Make a sign-out close the user's sockets at once."""
        from django.contrib.auth.signals import user_logged_out

        user_logged_out.connect(_signed_out, dispatch_uid="opscenter.sockets")


def _signed_out(user: Any, **kwargs: Any) -> None:
    from opscenter.core import realtime

    del kwargs
    if user is not None and user.pk is not None:
        realtime.publish_user(int(user.pk))
