"""HTTP and WebSocket entry point of the web process."""

from __future__ import annotations

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "opscenter.settings")
_http = get_asgi_application()  # before anything that needs the app registry

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.sessions import SessionMiddlewareStack  # noqa: E402
from django.conf import settings  # noqa: E402
from django.db import connections  # noqa: E402
from django.urls import path, re_path  # noqa: E402

from opscenter.web import consumers  # noqa: E402
from opscenter.web.body_limit import BodyLimit  # noqa: E402
from opscenter.web.lifespan import lifespan  # noqa: E402
from opscenter.web.request_log import RequestLog  # noqa: E402
from opscenter.web.shares import RequestShare, SocketShare  # noqa: E402

# Each request has a thread of its own here, which would leave its connection open behind it.
connections.settings["default"]["CONN_MAX_AGE"] = 0

# Channels takes ASGI applications where Django's path() is typed for views.
_fleet: Any = consumers.FleetConsumer.as_asgi()
_cluster: Any = consumers.ClusterConsumer.as_asgi()
_nothing: Any = consumers.NoSuchSocket.as_asgi()
websocket_routes: list[Any] = [
    path("ws/fleet/", _fleet),
    path("ws/clusters/<uuid:cluster_id>/", _cluster),
    re_path(r"", _nothing),
]


# Full origins, with scheme and port: a host name alone would admit any port of it.
application = ProtocolTypeRouter(
    {
        "lifespan": lifespan,
        "http": RequestLog(RequestShare(BodyLimit(_http)), write_access=settings.ACCESS_LOG),
        "websocket": RequestLog(
            SocketShare(
                consumers.StrictOriginValidator(
                    # A consumer asks itself whose session it is: as of now, not of the handshake.
                    SessionMiddlewareStack(URLRouter(websocket_routes)),
                    settings.TRUSTED_ORIGINS,
                )
            ),
            write_access=settings.ACCESS_LOG,
        ),
    }
)
