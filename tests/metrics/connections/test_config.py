"""Which source a cluster has: what can be set, how it is kept, what the log says of it."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest

from clusters.models import AuditEvent
from metrics.connections.config import (
    config_of,
    read_config,
    remove_source,
    save_source,
    source_row,
)
from metrics.connections.connect import credentials, source_of
from metrics.models import MetricSource, PullSchedule
from metrics.sources.agent.source import AgentSource
from metrics.sources.kinds import KINDS
from metrics.stores.writer import Batch
from opscenter.core.errors import InvalidInputError, NotFoundError
from tests.factories import NOW

pytestmark = pytest.mark.django_db
SECRET = "hunter2-hunter2"


def influx(**changes):
    given = {"settings": {"username": "root"}, "secrets": {"password": SECRET}, **changes}
    return read_config("influxdb", **given)


def test_what_is_left_out_takes_its_default():
    config = influx()
    assert (config.service, config.scheme) == ("influxdb", "http")
    assert config.settings == {"database": "k8s", "username": "root"}
    assert config.tls() is None
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("mysql", {}, "kind: use one of prometheus, influxdb"),
        ("prometheus", {"service": "agent"}, "service: use one of"),
        ("prometheus", {"service": "10.0.0.1"}, "service: use one of"),
        ("prometheus", {"scheme": "ftp"}, "scheme: use http or https"),
        ("prometheus", {"scheme": "https"}, "server_name: give the name"),
        ("prometheus", {"settings": {"path_prefix": "//evil"}}, "path_prefix: write it as"),
        ("prometheus", {"settings": {"path_prefix": "/a?b"}}, "path_prefix: write it as"),
        ("prometheus", {"settings": {"path_prefix": "/a#b"}}, "path_prefix: write it as"),
        ("prometheus", {"settings": {"path_prefix": "/a%2Fb"}}, "path_prefix: write it as"),
        ("prometheus", {"settings": {"bucket": "x"}}, "settings: 'bucket' is not one"),
        ("prometheus", {"secrets": {"key": "x"}}, "secrets: 'key' is not one"),
        ("prometheus", {"secrets": {"password": 5}}, "password: this must be text"),
        ("prometheus", {"secrets": {"password": "a\r\nb"}}, "password: it holds a control"),
        ("prometheus", {"settings": {"username": "x" * 301}}, "username: at most 300"),
        ("influxdb2", {"settings": {"org": "o"}}, "bucket: this is needed"),
    ],
)
def test_what_cannot_be_used_is_named(kind, given, said):
    with pytest.raises(InvalidInputError, match=said):
        read_config(kind, **given)


@pytest.mark.parametrize(
    "prefix",
    [
        "/select/0/prometheus",
        "/select/12:3/prometheus",
        "/api/v1/namespaces/monitoring/services/http:prometheus:9090/proxy",
        "/team@example.com/a+b",
    ],
)
def test_whatever_a_part_of_a_path_may_hold_is_a_prefix(prefix):
    config = read_config("prometheus", settings={"path_prefix": f"{prefix}/"})
    assert config.settings["path_prefix"] == prefix


def test_every_kind_signs_in_in_its_own_way():
    assert credentials(read_config("prometheus")) == {}
    basic = base64.b64encode(f"root:{SECRET}".encode()).decode()
    assert credentials(influx()) == {"Authorization": f"Basic {basic}"}
    token = {"token": "abc"}
    assert credentials(read_config("prometheus", secrets=token)) == {"Authorization": "Bearer abc"}
    two = read_config("influxdb2", settings={"org": "o", "bucket": "b"}, secrets=token)
    assert credentials(two) == {"Authorization": "Token abc"}


def test_a_source_is_kept_sealed_logged_without_secrets_and_allowed_at_the_hub(cluster, operator):
    row = save_source(cluster, influx(), actor=operator, now=NOW)
    stored = MetricSource.objects.filter(pk=row.pk).values().get()
    assert SECRET not in str(stored)
    assert (stored["added_by"], stored["added_at"]) == ("operator", NOW)
    assert stored["secret_names"] == ["password"]
    assert config_of(source_row(cluster)) == influx()
    cluster.refresh_from_db()
    assert cluster.allowed_services == ["agent", "influxdb"]
    lines = [(line.action, line.detail) for line in AuditEvent.objects.order_by("id")]
    assert [action for action, _ in lines] == ["cluster.services", "source.set"]
    assert SECRET not in str(lines)
    assert lines[1][1]["after"]["secrets_set"] == ["password"]


def test_a_secret_that_is_not_given_again_stays_but_never_moves_to_another_service(
    cluster, operator
):
    row = save_source(cluster, influx(), actor=operator)
    again = read_config("influxdb", settings={"database": "other"}, before=row)
    assert again.secrets == {"password": SECRET}
    assert again.settings == {"database": "other"}
    elsewhere = read_config("influxdb", service="prometheus", before=row)
    assert elsewhere.secrets == {}
    other_kind = read_config("prometheus", service="influxdb", before=row)
    assert other_kind.secrets == {}


def test_removing_goes_back_to_the_agent_and_closes_the_service(cluster, operator):
    save_source(cluster, influx(), actor=operator)
    remove_source(cluster, actor=operator)
    assert source_row(cluster) is None
    assert isinstance(source_of(cluster)[0], AgentSource)
    cluster.refresh_from_db()
    assert cluster.allowed_services == ["agent"]
    assert AuditEvent.objects.order_by("-id").first().action == "source.remove"
    with pytest.raises(NotFoundError):
        remove_source(cluster, actor=operator)


def test_a_change_of_source_goes_on_where_the_other_stopped(cluster, operator, store):
    PullSchedule.objects.create(cluster=cluster, due_at=NOW, failures=3)
    store.write(cluster.pk, "agent", Batch(watermark=600, head=1200))
    save_source(cluster, influx(), actor=operator, now=datetime.fromtimestamp(1090, UTC))
    schedule = PullSchedule.objects.get(cluster=cluster)
    assert (schedule.source_since, schedule.failures) == (1200, 0)
    # With what a pull of the one before may be about to store.
    remove_source(cluster, actor=operator)
    save_source(cluster, influx(), actor=operator, now=datetime.fromtimestamp(1290, UTC))
    assert PullSchedule.objects.get(cluster=cluster).source_since == 1320
    PullSchedule.objects.update(source_since=5)
    save_source(cluster, influx(settings={"database": "b"}), actor=operator)
    assert PullSchedule.objects.get(cluster=cluster).source_since == 5


def test_etcd_stands_beside_the_main_source(cluster, operator):
    save_source(cluster, influx(), actor=operator)
    save_source(cluster, read_config("etcd"), actor=operator)
    assert source_row(cluster).kind == "influxdb"
    assert source_row(cluster, "etcd").kind == "etcd"
    remove_source(cluster, "etcd", actor=operator)
    cluster.refresh_from_db()
    assert cluster.allowed_services == ["agent", "influxdb"]


def test_a_source_is_behind_the_service_of_its_kind_by_default():
    for kind in KINDS.values():
        if kind.name != "influxdb2":
            assert read_config(kind.name).service == kind.service
