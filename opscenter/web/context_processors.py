"""What every page's template gets: the time of the page, and what its user may do."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from clusters import access
from opscenter.monitoring.readiness import centre_problem


def page(request: HttpRequest) -> dict[str, Any]:
    """Return ``now`` (one time for the whole page), ``version``, ``may_create``, ``sees_all``.

    The latter two cost a query each, and only if a template uses them. ``centre_problem`` says
    what is not proven to work at Ops Center itself, for one request to Redis.
    """
    user = getattr(request, "user", None)
    return {
        "now": datetime.now(UTC),
        "version": settings.VERSION,
        "may_create": SimpleLazyObject(lambda: user is not None and access.acts_on_all(user)),
        "sees_all": SimpleLazyObject(lambda: user is not None and access.sees_all(user)),
        "centre_problem": SimpleLazyObject(centre_problem),
        "stale_seconds": 2 * settings.PULL_INTERVAL_SECONDS + 60,
    }
