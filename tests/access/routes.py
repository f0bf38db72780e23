"""Who gets what from every route: the table of ``test_matrix.py``. A missing route fails there.

One line a route: its pattern as :func:`all_routes` writes it, then for
each method what anonymous, stranger, viewer and operator get. ``{cluster}`` and its kin are
filled with the viewer's cluster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

from clusters.api.base import CLUSTER_PATH
from metrics.api.base import CUSTOMER_PATH
from metrics.api.exports import EXPORT_PATH

LOGIN = 302
"""Sent to the sign-in page."""


@dataclass(frozen=True)
class Expect:
    """What each of the cast gets for one method of one address.

    Attributes:
        url: address to ask; ``{cluster}`` is the viewer's cluster, ``{customer}`` its customer.
        anonymous, stranger, viewer, operator: expected status.
        body: JSON to send; None for no body.
        method: HTTP method.
        form: data to send as a form instead of JSON.
    """

    url: str
    anonymous: int
    stranger: int
    viewer: int
    operator: int
    method: str = "GET"
    body: Any = None
    form: dict[str, str] | None = None


def get(url: str, anonymous: int, stranger: int, viewer: int, operator: int) -> Expect:
    """Return the expectation of a GET."""
    return Expect(url, anonymous, stranger, viewer, operator)


def act(method: str, url: str, statuses: tuple[int, int, int, int], body: Any = None) -> Expect:
    """Return the expectation of a method that changes something."""
    return Expect(url, *statuses, method=method, body=body)


def form(
    url: str, anonymous: int, stranger: int, viewer: int, operator: int, **data: str
) -> Expect:
    """Return the expectation of an empty form that is posted."""
    return Expect(url, anonymous, stranger, viewer, operator, method="POST", form={})


@dataclass(frozen=True)
class Group:
    """Routes of a library that are tested there, and here only by who may come near.

    Attributes:
        prefix: how their patterns start.
        reason: why they are not listed one by one.
        anonymous_ok: whether a visitor may see pages below it; otherwise every one answers
            visitors and viewers with a redirect, 403 or 404.
    """

    prefix: str
    reason: str
    anonymous_ok: bool = field(default=False)


API = "/api/v1/"
PROMETHEUS = "/prometheus/api/v1/"
C = "/api/v1/clusters/{cluster}"
P = "/clusters/{cluster}"
NOBODY = "00000000-0000-4000-8000-000000000000"
CSV = {"format": "csv"}
D = "/customers/{customer}"
K = "/api/v1/customers/{customer}"
ENROL = {"token": "ocj_wrong", "public_key": "ssh-ed25519 AAAA"}

ROUTES: dict[str, list[Expect]] = {
    "healthz": [get("/healthz", 200, 200, 200, 200)],
    # 503 because nothing else runs beside this test.
    "readyz": [get("/readyz", 503, 503, 503, 503)],
    # A visitor from this very machine may scrape; whoever signs in is judged by who it is.
    "metrics": [get("/metrics", 200, 403, 403, 200)],
    # Pages: a visitor is sent to sign in.
    "": [get("/", LOGIN, 200, 200, 200)],
    "fleet/updates/": [get("/fleet/updates/", LOGIN, 200, 200, 200)],
    "history/": [get("/history/", LOGIN, 200, 200, 200)],
    "pods/": [get("/pods/", LOGIN, 200, 200, 200)],
    "pods.csv": [get("/pods.csv", LOGIN, 200, 200, 200)],
    "help/": [get("/help/", LOGIN, 200, 200, 200)],
    "help/states/": [get("/help/states/", LOGIN, 200, 200, 200)],
    "help/docs/<slug:name>.md": [
        get("/help/docs/pages.md", LOGIN, 200, 200, 200),
        get("/help/docs/no-such.md", LOGIN, 404, 404, 404),
    ],
    "clusters/add/": [get("/clusters/add/", LOGIN, 403, 403, 200)],
    "clusters/<uuid:cluster_id>/": [get(f"{P}/", LOGIN, 404, 200, 200)],
    "clusters/<uuid:cluster_id>/history.csv": [get(f"{P}/history.csv", LOGIN, 404, 200, 200)],
    "clusters/<uuid:cluster_id>/nodes/<anything:name>/dismiss/": [
        form(f"{P}/nodes/no-such/dismiss/", LOGIN, 404, 403, 404)
    ],
    "clusters/<uuid:cluster_id>/nodes/<anything:name>/": [
        get(f"{P}/nodes/no-such/", LOGIN, 404, 404, 404)
    ],
    "clusters/<uuid:cluster_id>/pods/<segment:ns>/<anything:name>/": [
        get(f"{P}/pods/ns/no-such/", LOGIN, 404, 404, 404)
    ],
    "clusters/<uuid:cluster_id>/pods.csv": [get(f"{P}/pods.csv", LOGIN, 404, 200, 200)],
    "clusters/<uuid:cluster_id>/chart/<slug:panel>.<slug:form>": [
        get(f"{P}/chart/cpu.json", LOGIN, 404, 200, 200),
        get(f"{P}/chart/cpu.csv", LOGIN, 404, 200, 200),
        get(f"{P}/chart/cpu.html", LOGIN, 404, 200, 200),
        get(f"{P}/chart/cpu.exe", LOGIN, 404, 404, 404),
    ],
    "clusters/<uuid:cluster_id>/join/": [get(f"{P}/join/", LOGIN, 404, 403, 200)],
    "clusters/<uuid:cluster_id>/key/": [form(f"{P}/key/", LOGIN, 404, 403, 422)],
    "clusters/<uuid:cluster_id>/labels/": [form(f"{P}/labels/", LOGIN, 404, 403, 302)],
    "clusters/<uuid:cluster_id>/source/": [
        get(f"{P}/source/", LOGIN, 404, 403, 200),
        form(f"{P}/source/", LOGIN, 404, 403, 422),
    ],
    "clusters/<uuid:cluster_id>/source/remove/": [
        form(f"{P}/source/remove/", LOGIN, 404, 403, 302)
    ],
    "clusters/<uuid:cluster_id>/revoke/": [form(f"{P}/revoke/", LOGIN, 404, 403, 422)],
    "clusters/<uuid:cluster_id>/delete/": [form(f"{P}/delete/", LOGIN, 404, 403, 422)],
    "prometheus/api/v1/query": [
        get(f"{PROMETHEUS}query?query=1", 401, 200, 200, 200),
        act("POST", f"{PROMETHEUS}query?query=1", (401, 415, 415, 415), {}),
        act("DELETE", f"{PROMETHEUS}query", (401, 405, 405, 405)),
    ],
    "prometheus/api/v1/query_range": [
        get(f"{PROMETHEUS}query_range?query=1&start=0&end=1&step=1", 401, 200, 200, 200)
    ],
    "prometheus/api/v1/series": [
        get(f"{PROMETHEUS}series?match[]=opscenter_node_pods", 401, 200, 200, 200)
    ],
    "prometheus/api/v1/labels": [get(f"{PROMETHEUS}labels", 401, 200, 200, 200)],
    "prometheus/api/v1/label/<str:name>/values": [
        get(f"{PROMETHEUS}label/cluster/values", 401, 200, 200, 200)
    ],
    "prometheus/api/v1/metadata": [get(f"{PROMETHEUS}metadata", 401, 200, 200, 200)],
    "prometheus/api/v1/status/buildinfo": [
        get(f"{PROMETHEUS}status/buildinfo", 401, 200, 200, 200)
    ],
    "prometheus/api/v1/<path:path>": [get(f"{PROMETHEUS}rules", 404, 404, 404, 404)],
    "clusters/<uuid:cluster_id>/hold/": [form(f"{P}/hold/", LOGIN, 404, 403, 403)],
    "clusters/<uuid:cluster_id>/lift/": [form(f"{P}/lift/", LOGIN, 404, 403, 403)],
    "retention/": [get("/retention/", LOGIN, 403, 403, 200)],
    "retention/add/": [get("/retention/add/", LOGIN, 403, 403, 403)],
    "retention/<int:class_id>/": [get("/retention/999/", LOGIN, 403, 403, 403)],
    "retention/<int:class_id>/delete/": [form("/retention/999/delete/", LOGIN, 403, 403, 403)],
    "customers/<uuid:customer_id>/": [get(f"{D}/", LOGIN, 404, 200, 200)],
    "customers/<uuid:customer_id>/class/": [form(f"{D}/class/", LOGIN, 404, 403, 403)],
    "customers/<uuid:customer_id>/hold/": [form(f"{D}/hold/", LOGIN, 404, 403, 403)],
    "customers/<uuid:customer_id>/erase/": [form(f"{D}/erase/", LOGIN, 404, 403, 403)],
    "exports/<slug:which>/<uuid:target_id>/": [
        get("/exports/cluster/{cluster}/", LOGIN, 404, 200, 200),
        get("/exports/customer/{customer}/", LOGIN, 404, 200, 200),
        get("/exports/fleet/{cluster}/", LOGIN, 404, 404, 404),
        form("/exports/cluster/{cluster}/", LOGIN, 404, 302, 302),
    ],
    "exports/<uuid:export_id>/file/": [get(f"/exports/{NOBODY}/file/", LOGIN, 404, 404, 404)],
    "exports/<uuid:export_id>/delete/": [form(f"/exports/{NOBODY}/delete/", LOGIN, 404, 404, 404)],
    "customers/<uuid:customer_id>/lift/": [form(f"{D}/lift/", LOGIN, 404, 403, 403)],
    "api/v1/^$": [get(API, 401, 200, 200, 200)],
    "api/v1/^schema/?$": [get(f"{API}schema/", 200, 200, 200, 200)],
    "api/v1/^docs/?$": [get(f"{API}docs/", 200, 200, 200, 200)],
    "api/v1/^agents/enrol/?$": [
        act("POST", f"{API}agents/enrol", (403, 403, 403, 403), ENROL),
        get(f"{API}agents/enrol", 405, 405, 405, 405),
    ],
    "api/v1/^clusters/?$": [
        get(f"{API}clusters/", 401, 200, 200, 200),
        act("POST", f"{API}clusters/", (401, 403, 403, 201), {"name": "brand-new"}),
    ],
    "api/v1/^clusters/{id}/?$": [
        get(f"{C}/", 401, 404, 200, 200),
        act("PATCH", f"{C}/", (401, 404, 403, 200), {"labels": {"a": "b"}}),
        act("PUT", f"{C}/", (401, 405, 405, 405), {}),
        act("DELETE", f"{C}/", (401, 404, 403, 204)),
    ],
    "api/v1/^clusters/{id}/join-token/?$": [
        act("POST", f"{C}/join-token/", (401, 404, 403, 201)),
        get(f"{C}/join-token/", 401, 405, 405, 405),
    ],
    "api/v1/^clusters/{id}/revoke/?$": [act("POST", f"{C}/revoke/", (401, 404, 403, 200))],
    "api/v1/^clusters/{id}/nodes/?$": [get(f"{C}/nodes/", 401, 404, 200, 200)],
    "api/v1/^clusters/{id}/pods/?$": [get(f"{C}/pods/", 401, 404, 200, 200)],
    "api/v1/^clusters/{id}/filesystems/?$": [get(f"{C}/filesystems/", 401, 404, 200, 200)],
    "api/v1/^clusters/{id}/windows/?$": [get(f"{C}/windows", 401, 404, 200, 200)],
    "api/v1/^clusters/{id}/range/?$": [
        get(f"{C}/range?kind=cluster&field=cpu_mc", 401, 404, 200, 200),
        get(f"{C}/range", 401, 404, 400, 400),
    ],
    "api/v1/^clusters/{id}/retention/?$": [get(f"{C}/retention/", 401, 404, 200, 200)],
    # Only administrators decide what is kept: operators see it.
    "api/v1/^clusters/{id}/hold/?$": [
        act("POST", f"{C}/hold/", (401, 404, 403, 403), {"reason": "x"}),
        act("DELETE", f"{C}/hold/", (401, 404, 403, 403)),
        get(f"{C}/hold/", 401, 405, 405, 405),
    ],
    "api/v1/^customers/?$": [get(f"{API}customers/", 401, 200, 200, 200)],
    "api/v1/^customers/{customer}/retention/?$": [
        get(f"{K}/retention/", 401, 404, 200, 200),
        act("PATCH", f"{K}/retention/", (401, 404, 403, 403), {"retention_class_id": None}),
    ],
    "api/v1/^customers/{customer}/hold/?$": [
        act("POST", f"{K}/hold/", (401, 404, 403, 403), {"reason": "x"}),
        act("DELETE", f"{K}/hold/", (401, 404, 403, 403)),
        get(f"{K}/hold/", 401, 405, 405, 405),
    ],
    "api/v1/^customers/{customer}/erase/?$": [
        act("POST", f"{K}/erase/", (401, 404, 403, 403), {"confirm": "Northwind"}),
        get(f"{K}/erase/", 401, 405, 405, 405),
    ],
    "api/v1/^exports/?$": [
        get(f"{API}exports/", 401, 200, 200, 200),
        act("POST", f"{API}exports/", (401, 404, 201, 201), {"cluster_id": "{cluster}", **CSV}),
        act("POST", f"{API}exports/", (401, 404, 201, 201), {"customer_id": "{customer}", **CSV}),
    ],
    "api/v1/^exports/{export}/?$": [
        get(f"{API}exports/{NOBODY}/", 401, 404, 404, 404),
        act("DELETE", f"{API}exports/{NOBODY}/", (401, 404, 404, 404)),
    ],
    "api/v1/^exports/{export}/file/?$": [get(f"{API}exports/{NOBODY}/file/", 401, 404, 404, 404)],
    "api/v1/^erasures/?$": [get(f"{API}erasures/", 401, 403, 403, 200)],
    "api/v1/^erasures/{erasure}/?$": [get(f"{API}erasures/{NOBODY}/", 401, 403, 403, 404)],
    "api/v1/^retention-classes/?$": [
        get(f"{API}retention-classes/", 401, 403, 403, 200),
        act("POST", f"{API}retention-classes/", (401, 403, 403, 403), {"name": "x"}),
    ],
    "api/v1/^retention-classes/{class}/?$": [
        get(f"{API}retention-classes/999/", 401, 403, 403, 404),
        act("PATCH", f"{API}retention-classes/999/", (401, 403, 403, 403), {}),
        act("DELETE", f"{API}retention-classes/999/", (401, 403, 403, 403)),
    ],
    "api/v1/^clusters/{id}/raw/?$": [
        # Nobody tunnels in these tests: the answer names that.
        get(f"{C}/raw?kind=node&name=n1&field=cpu_mc", 401, 404, 503, 503),
        get(f"{C}/raw?kind=cluster&field=cpu_mc", 401, 404, 400, 400),
    ],
    "api/v1/^clusters/{id}/top/?$": [
        get(f"{C}/top", 401, 404, 200, 200),
        get(f"{C}/top?format=csv", 401, 404, 200, 200),
        get(f"{C}/top?field=no-such", 401, 404, 400, 400),
    ],
    "api/v1/^top/?$": [
        get(f"{API}top", 401, 200, 200, 200),
        get(f"{API}top?kind=node&format=csv", 401, 200, 200, 200),
    ],
    "api/v1/^clusters/{id}/backfill/?$": [get(f"{C}/backfill", 401, 404, 200, 200)],
    "api/v1/^clusters/{id}/source/?$": [
        get(f"{C}/source/", 401, 404, 200, 200),
        act("PUT", f"{C}/source/", (401, 404, 403, 200), {"kind": "prometheus", "test": False}),
        act("DELETE", f"{C}/source/", (401, 404, 403, 404)),
    ],
    "api/v1/^clusters/{id}/source/test/?$": [
        act("POST", f"{C}/source/test/", (401, 404, 403, 404)),
    ],
    "api/v1/^clusters/{id}/etcd/?$": [
        act("PUT", f"{C}/etcd/", (401, 404, 403, 200), {"test": False}),
        act("DELETE", f"{C}/etcd/", (401, 404, 403, 404)),
    ],
    "api/v1/^clusters/{id}/etcd/test/?$": [
        act("POST", f"{C}/etcd/test/", (401, 404, 403, 404)),
    ],
    "api/v1/^clusters/{id}/history/?$": [
        get(f"{C}/history/?key=state", 401, 404, 200, 200),
        get(f"{C}/history/?start=never", 401, 404, 400, 400),
    ],
    "api/v1/^clusters/{id}/inventory/?$": [get(f"{C}/inventory/", 401, 404, 200, 200)],
    "api/v1/^clusters/{id}/nodes/{name}/dismiss/?$": [
        act("POST", f"{C}/nodes/no-such/dismiss/", (401, 404, 403, 404)),
        get(f"{C}/nodes/no-such/dismiss/", 401, 405, 405, 405),
    ],
    "api/v1/^clusters/{id}/sessions/?$": [get(f"{C}/sessions/", 401, 404, 200, 200)],
}

GROUPS = [
    Group("admin/", "Django's admin: staff only; its own permissions are tested by Django"),
    Group("accounts/", "allauth: sign-in, password and MFA of oneself only", anonymous_ok=True),
]

SOCKETS: dict[str, tuple[str, tuple[bool, bool, bool, bool]]] = {
    "ws/fleet/": ("/ws/fleet/", (False, True, True, True)),
    "ws/clusters/<uuid:cluster_id>/": ("/ws/clusters/{cluster}/", (False, False, True, True)),
    "": ("/ws/nothing/", (False, False, False, False)),
}
"""Pattern of a socket -> an address, and whether anonymous, stranger, viewer, operator get in."""


_PATHS = {
    CLUSTER_PATH: "clusters/{id}",
    CUSTOMER_PATH: "customers/{customer}",
    "(?P<class_id>[0-9]{1,15})": "{class}",
    EXPORT_PATH: "exports/{export}",
    "(?P<name>.+)": "{name}",
    "(?P<erasure_id>[0-9a-fA-F-]{36})": "{erasure}",
}


def all_routes(resolver: URLResolver | None = None, prefix: str = "") -> Iterator[str]:
    """Yield the whole pattern of every route, with short names for the ids in it."""
    for entry in (resolver or get_resolver()).url_patterns:
        pattern = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from all_routes(entry, pattern)
        elif isinstance(entry, URLPattern):
            for path, name in _PATHS.items():
                pattern = pattern.replace(path, name)
            yield pattern
