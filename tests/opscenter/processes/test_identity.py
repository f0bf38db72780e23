"""A start is refused where database, secret key and metric store are not of one installation."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command

from clusters.models import AuditEvent, Cluster
from metrics.series.rows import SeriesKey
from metrics.series.windows import STREAM
from metrics.stores import close_stores, get_store
from metrics.stores.writer import Batch
from opscenter.models import Installation
from opscenter.monitoring.installation import check_metric_store, metric_store_problem
from opscenter.monitoring.readiness import missing_parts
from opscenter.processes.first_start import check_start
from tests.factories import ClusterFactory, healthy
from tests.metrics.stores.contract import T0, row

pytestmark = pytest.mark.django_db


@pytest.fixture(params=[1, 4])
def shards(request, settings) -> int:
    settings.METRICS_SHARDS = request.param
    return int(request.param)


@pytest.fixture
def away(settings, tmp_path) -> Iterator[Path]:
    """Another data directory's place for the metric store."""
    path = tmp_path / "elsewhere" / "metrics.sqlite3"
    path.parent.mkdir()
    close_stores()
    yield path
    close_stores()


def write(cluster: Cluster) -> None:
    batch = Batch(rows=[row(SeriesKey("node", "", "n1"), T0)], head=T0 + 60)
    get_store().write(cluster.pk, STREAM, batch)


def unmark() -> None:
    """Make the store what an earlier version left."""
    for place in get_store().places([]):
        if Path(place.name).exists():  # nobody wrote into a file that is not there
            with sqlite3.connect(place.name) as connection:
                connection.execute("DELETE FROM meta WHERE key = 'installation'")


def files(settings) -> list[Path]:
    return sorted(Path(settings.METRICS_SQLITE_PATH).parent.glob("metrics*.sqlite3"))


def test_the_first_start_gives_an_id_to_database_and_every_file(shards, settings):
    check_metric_store()
    identity = str(Installation.objects.get().identity)
    assert [place.identity for place in get_store().places([])] == [identity] * shards
    assert len(files(settings)) == shards
    check_metric_store()
    assert Installation.objects.count() == 1


def test_an_empty_store_beside_clusters_with_data_is_refused(shards, cluster, settings, away):
    check_metric_store(adopt_empty=True)
    write(cluster)
    close_stores()
    settings.METRICS_SQLITE_PATH = away
    with pytest.raises(ImproperlyConfigured, match="is empty, although clusters have data") as said:
        check_metric_store()
    assert "--adopt-empty-store" in str(said.value)
    assert "\n" not in str(said.value)
    assert list(away.parent.iterdir()) == [], "a refused start makes no file"
    check_metric_store(adopt_empty=True)
    check_metric_store()


def test_a_store_of_another_installation_is_refused_whatever_is_asked(shards, cluster):
    check_metric_store(adopt_empty=True)
    write(cluster)
    Installation.objects.all().delete()
    for adopt_empty in (False, True):
        with pytest.raises(ImproperlyConfigured, match="is another installation's"):
            check_metric_store(adopt_empty=adopt_empty)


def test_a_store_without_id_that_holds_a_known_cluster_is_adopted_without_hands(shards, cluster):
    for _ in range(8):  # some in every file
        write(ClusterFactory(**healthy()))
    write(cluster)
    unmark()
    check_metric_store()
    identity = str(Installation.objects.get().identity)
    assert {place.identity for place in get_store().places([])} == {identity}


def test_a_store_without_id_of_clusters_that_were_deleted_here_is_adopted(cluster):
    write(cluster)
    unmark()
    AuditEvent.objects.create(
        at="2026-01-01T00:00:00Z", actor="x", action="cluster.delete", cluster_id=cluster.pk,
        previous="", digest="x",
    )  # fmt: skip
    cluster.delete()
    check_metric_store()


def test_a_store_without_id_of_unknown_clusters_is_refused_and_left_as_it_is(cluster):
    write(cluster)
    unmark()
    cluster.delete()
    with pytest.raises(ImproperlyConfigured, match="is another installation's"):
        check_metric_store(adopt_empty=True)
    assert [place.identity for place in get_store().places([])] == [""]


def test_readiness_names_a_store_that_is_swapped_while_it_runs(
    shards, cluster, settings, tmp_path, redis_server
):
    check_metric_store(adopt_empty=True)
    write(cluster)
    assert metric_store_problem() == ""
    path = Path(get_store().places([])[-1].name)
    kept = tmp_path / "kept"
    path.replace(kept)
    assert "metric store" in missing_parts()
    assert str(path) not in missing_parts()["metric store"]
    shutil.copy(kept, path)
    assert missing_parts()["metric store"] == (
        "is another one than at the start: restart Ops Center"
    )


def test_a_start_without_a_prepared_database_says_so(monkeypatch):
    monkeypatch.setattr(
        "django.db.backends.base.introspection.BaseDatabaseIntrospection.table_names",
        lambda *_, **__: [],
    )
    with pytest.raises(ImproperlyConfigured, match=r"run `manage\.py prepare` first"):
        check_start(["web"])


def test_a_hub_needs_no_metric_store(cluster):
    check_start(["hub"])
    with pytest.raises(ImproperlyConfigured, match="is empty, although"):
        check_start(["worker"])


def test_a_backup_of_both_is_restored_as_documented(cluster, settings, tmp_path, away):
    check_metric_store(adopt_empty=True)
    write(cluster)
    call_command("backup_metrics", str(tmp_path / "backup"))
    close_stores()
    for copy in (tmp_path / "backup").iterdir():
        shutil.copy(copy, away.parent / copy.name)
    settings.METRICS_SQLITE_PATH = away
    check_metric_store()
    assert get_store().last(cluster.pk, "node")
