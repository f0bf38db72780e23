"""Setting, testing and removing a source by the API and by its page; progress of filling gaps."""

from __future__ import annotations

import re

import pytest
from django.utils import timezone

from clusters.models import AuditEvent, ClusterStatus
from metrics.connections import probe as source_probe
from metrics.models import MetricSource, PullSchedule
from metrics.series.windows import Window
from metrics.sources.base import FieldProbe, Probe, Resolution
from metrics.sources.kinds import KINDS
from metrics.stores.writer import Batch
from opscenter.core.errors import BadResponseError, ConsentOffError, ServiceUnavailableError
from tests.factories import NOW, TunnelSessionFactory
from tests.metrics.pulling.scripted import ScriptedSource, answer_as

pytestmark = pytest.mark.django_db
SECRET = "hunter2-hunter2"
FOUND = Probe(
    product="InfluxDB",
    version="1.6.7",
    oldest=1_700_000_000,
    newest=1_800_000_000,
    series={"node": 3, "filesystem": 4, "pod": 30},
    fields=(
        FieldProbe("node", "cpu_mc", 3),
        FieldProbe("node", "etcd_fsync_us", 0, "Heapster knows nothing of etcd; read it <here>"),
    ),
    resolutions=(Resolution(60, 86_400, "1m"), Resolution(300, None, "10m")),
    notes=("two replicas",),
)


def test_the_api_tells_the_settings_of_every_kind(client):
    schema = client.get("/api/v1/schema/?format=json").json()["components"]["schemas"]
    said = schema["SourceWrite"]["properties"]["settings"]["description"]
    for kind in KINDS.values():
        (of_kind,) = re.findall(rf"\b{kind.name}: ([^.]*)\.", said)
        assert {text.split()[0] for text in of_kind.split(", ")} == set(kind.settings)


@pytest.fixture
def probed(monkeypatch):
    """A source whose test finds :data:`FOUND`, or raises what the test puts in its list."""
    outcomes: list[Exception] = []

    async def probe(self, client, *, now):
        del self, client, now
        if outcomes:
            raise outcomes[0]
        return FOUND

    class Client:
        server_date = None

    class Connection:
        async def __aenter__(self):
            return Client()

        async def __aexit__(self, *rest):
            return None

    monkeypatch.setattr(ScriptedSource, "probe", probe, raising=False)
    answer_as(monkeypatch, "influxdb", ScriptedSource())
    monkeypatch.setattr(source_probe, "connector", lambda _config: lambda _cluster: Connection())
    monkeypatch.setattr(source_probe, "WAIT_SECONDS", 0)
    return outcomes


def url(cluster, rest=""):
    return f"/api/v1/clusters/{cluster.pk}/source/{rest}"


def body(**more):
    return {"kind": "influxdb", "settings": {"username": "root"},
            "secrets": {"password": SECRET}, **more}  # fmt: skip


def put(client, cluster, **more):
    return client.put(url(cluster), body(**more), content_type="application/json")


def test_without_a_source_the_agent_answers(client, operator, cluster):
    client.force_login(operator)
    got = client.get(url(cluster)).json()
    assert (got["main"]["kind"], got["etcd"], got["rejected_rows"]) == ("agent", None, 0)


def test_a_source_is_tested_and_set(client, operator, cluster, probed):
    TunnelSessionFactory(cluster=cluster, services=["agent"], state="ready", ended_at=None)
    client.force_login(operator)
    answer = put(client, cluster)
    assert answer.status_code == 200, answer.content
    got = answer.json()
    assert got["saved"]
    main = got["sourcing"]["main"]
    assert (main["kind"], main["settings"]) == ("influxdb", {"database": "k8s", "username": "root"})
    assert main["secrets_set"] == ["password"]
    assert main["agent_setting"] == "OPSCENTER_AGENT_SERVICES=influxdb=HOST:8086"
    assert main["report"]["version"] == "1.6.7"
    assert main["report"]["resolutions"][1] == {
        "step_seconds": 300, "reach_seconds": None, "tier": "10m",
    }  # fmt: skip
    assert main["report"]["fields"][1]["why"].startswith("Heapster knows nothing")
    assert SECRET not in answer.content.decode()
    assert SECRET not in client.get(url(cluster)).content.decode()
    actions = list(AuditEvent.objects.order_by("id").values_list("action", "ok"))
    assert actions == [("cluster.services", True), ("source.test", True), ("source.set", True)]


@pytest.mark.parametrize(
    ("error", "code", "title"),
    [
        (BadResponseError("401", problem="credentials_refused"), "credentials_refused",
         "Wrong credentials"),
        (BadResponseError("404", problem="not_found"), "not_found", "Nothing at this address"),
        (BadResponseError("x", problem="database_missing"), "database_missing",
         "There is no such database"),
        (BadResponseError("HTML", problem="not_json"), "not_json",
         "A different kind of server answers"),
        (BadResponseError("odd"), "bad_response", "Its answer cannot be used"),
        (ServiceUnavailableError("500"), "service_down",
         "The service behind the tunnel does not answer"),
        (ConsentOffError("no"), "consent_off", "The agent does not let this service through"),
    ],
)  # fmt: skip
def test_a_failed_test_is_named_and_changes_nothing(
    client, operator, cluster, probed, error, code, title
):
    probed.append(error)
    client.force_login(operator)
    got = put(client, cluster).json()
    assert not got["saved"]
    assert (got["report"]["ok"], got["report"]["code"]) == (False, code)
    assert got["report"]["title"] == title
    assert got["report"]["message"] == str(error)
    assert not MetricSource.objects.exists()
    page = client.post(f"/clusters/{cluster.pk}/source/?kind=influxdb", {
        "service": "influxdb", "scheme": "http", "username": "root", "password": SECRET,
    })  # fmt: skip
    assert page.status_code == 422
    assert title in page.content.decode()
    assert SECRET not in page.content.decode()


def test_a_source_may_be_set_without_a_test_and_tested_later(client, operator, cluster, probed):
    client.force_login(operator)
    assert put(client, cluster, test=False).json()["report"] is None
    tested = client.post(url(cluster, "test/"), {}, content_type="application/json").json()
    assert (tested["ok"], tested["product"]) == (True, "InfluxDB")
    assert client.delete(url(cluster)).status_code == 204
    assert client.delete(url(cluster)).status_code == 404


def test_what_cannot_be_used_is_refused_by_field(client, operator, cluster):
    client.force_login(operator)
    answer = client.put(url(cluster), {"kind": "influxdb2"}, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "org: this is needed")


def test_the_page_tests_sets_shows_and_removes(client, operator, cluster, probed):
    client.force_login(operator)
    address = f"/clusters/{cluster.pk}/source/?kind=influxdb"
    page = client.get(address).content.decode()
    assert "OPSCENTER_AGENT_SERVICES=influxdb=HOST:8086" in page
    form = {"service": "influxdb", "scheme": "http", "database": "k8s", "password": SECRET}
    only = client.post(address, {**form, "step": "test"})
    assert "InfluxDB 1.6.7" in only.content.decode()
    assert not MetricSource.objects.exists()
    done = client.post(address, form, follow=True).content.decode()
    assert "InfluxDB 1.x (Heapster, Telegraf): saved and tested." in done
    assert "Missing: 1 of 2 fields" in done
    assert "read it &lt;here&gt;" in done
    assert SECRET not in done
    assert "Already set; leave empty to keep it." in done
    data = client.get(f"/clusters/{cluster.pk}/?tab=data").content.decode()
    assert "InfluxDB 1.x (Heapster, Telegraf)" in data
    gone = client.post(f"/clusters/{cluster.pk}/source/remove/", {"role": "main"}, follow=True)
    assert "collectors are used from now on" in gone.content.decode()
    assert not MetricSource.objects.exists()


def test_errors_of_the_form_are_at_their_field(client, operator, cluster, probed):
    client.force_login(operator)
    page = client.post(f"/clusters/{cluster.pk}/source/?kind=prometheus", {
        "service": "prometheus", "scheme": "http", "path_prefix": "no slash",
    })  # fmt: skip
    assert page.status_code == 422
    assert "write it as /part or /part/part" in page.content.decode()
    assert client.get(f"/clusters/{cluster.pk}/source/?kind=mysql").status_code == 404


def test_progress_is_in_the_api_and_on_the_pages(client, viewer, cluster, store):
    start = int(NOW.timestamp()) // 600 * 600 - 7200
    gaps = [
        Window(at, at + 600, "gap", 4, 10, 1, "tunnel_down", "", None)
        for at in range(start, start + 3600, 600)
    ]
    store.write(cluster.pk, "agent", Batch(windows=gaps, watermark=start, head=start + 7200))
    ClusterStatus.objects.update(tunnel_seen_at=timezone.now())
    kept = {"since": start, "done": 36, "runs": [[0.0, 18.0, 36]], "longest": None}
    PullSchedule.objects.create(cluster=cluster, due_at=NOW, progress=kept)
    client.force_login(viewer)
    got = client.get(f"/api/v1/clusters/{cluster.pk}/backfill/").json()
    assert (got["gaps"], got["minutes_left"], got["minutes_done"]) == (6, 36, 36)
    assert (got["minutes_per_second"], got["seconds_left"]) == (2.0, 18.0)
    for tab in ("overview", "data"):
        page = " ".join(client.get(f"/clusters/{cluster.pk}/?tab={tab}").content.decode().split())
        assert "36 minutes left in 6 windows" in page
        assert "about <b>18 s</b> left at 2 minutes of data per second" in page
