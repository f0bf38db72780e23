"""Exports: every number of one customer and no other's, in both formats, in bounded memory."""

from __future__ import annotations

import csv
import io
import json
import stat
import tracemalloc
import zipfile
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest
from django.core.management import call_command

from clusters.models import AuditEvent, ClusterEvent
from metrics.exports import formats, jobs
from metrics.exports.archive import Span, write_export
from metrics.exports.targets import Zip, part_of
from metrics.models import Export
from metrics.retention.rules import cells
from metrics.series.catalog import CATALOG, FIELD_NAMES
from metrics.series.rows import Cell, SeriesInfo, SeriesKey
from metrics.series.windows import DAY
from metrics.stores import StoreError, get_store
from metrics.stores.copier import StoredRow
from metrics.stores.writer import Batch
from opscenter.core.errors import ConflictError, InvalidInputError
from tests.factories import ClusterFactory
from tests.metrics.deletion.expiring import NODE, POD, T0
from tests.metrics.stores.contract import row, window

pytestmark = pytest.mark.django_db
EVIL = SeriesKey("pod", "=cmd|' /C calc'!A0", "@SUM(1+9)")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _own_directory(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def stored(cluster, foreign_cluster):
    """Two hours of three series with a hole, in two clusters of the customer and one other's."""
    second = ClusterFactory(name="north-2", customer=cluster.customer)
    for number, one in enumerate((cluster, second, foreign_cluster)):
        rows = [
            row(key, T0 + 60 * minute, cpu_mc=100 * number + minute)
            for minute in [*range(50), *range(70, 120)]
            for key in (NODE, POD, EVIL)
        ]
        rows.append(row(NODE, T0 + 7200, mem_ws=None, cpu_mc=-5))
        infos = [SeriesInfo(EVIL, "n1", {"image": "=1+1"})]
        lines = [window(T0, T0 + 600), window(T0 + 600, T0 + 1200, "gap", detail="-1")]
        get_store().write(one.pk, "agent", Batch(rows=rows, infos=infos, windows=lines))
    return cluster.customer


def export(target, form, path, start=0, end=T0 + DAY):
    clusters = [target] if hasattr(target, "customer_id") else list(target.clusters.all())
    span = Span(str(target), clusters, form, start, end)
    done = write_export(get_store(), span, Zip(path), now=T0, report=lambda _: None)
    return done, zipfile.ZipFile(path)


def expected(cluster, kind, tier, start=0, end=T0 + DAY):
    """Return the rows that the store has, as flat tuples."""
    return [
        (one.ts, one.key.ns, one.key.name, one.n,
         *(part for cell in one.cells for part in (cell or (None,) * 4)))
        for one in get_store().scan(cluster.pk, kind, tier, start, end)
    ]  # fmt: skip


def test_parquet_holds_every_stored_number_of_the_customer_and_no_other(stored, tmp_path):
    done, files = export(stored, "parquet", tmp_path / "all.zip")
    rows = 0
    for cluster in stored.clusters.all():
        for kind, tier in cells():
            name = f"{cluster.name}/{kind}_{tier}.parquet"
            wanted = expected(cluster, kind, tier)
            rows += len(wanted)
            if not wanted:
                assert name not in files.namelist()
                continue
            table = pq.read_table(io.BytesIO(files.read(name)))
            assert table.column_names == [column for column, _ in formats.row_columns(kind)]
            columns = table.to_pydict()
            columns["time"] = [int(moment.timestamp()) for moment in columns["time"]]
            assert list(zip(*columns.values(), strict=True)) == wanted
    assert done.rows == rows > 900
    assert not [name for name in files.namelist() if name.startswith("south")]
    assert stat.S_IMODE((tmp_path / "all.zip").stat().st_mode) == 0o600


def test_csv_holds_the_same_numbers_and_no_formula(cluster, stored, tmp_path):
    _, files = export(cluster, "csv", tmp_path / "one.zip")
    for kind, tier in cells():
        wanted = expected(cluster, kind, tier)
        if not wanted:
            continue
        text = io.StringIO(files.read(f"north-1/{kind}_{tier}.csv").decode())
        head, *found = csv.reader(text)
        assert head == [column for column, _ in formats.row_columns(kind)]
        for line, numbers in zip(found, wanted, strict=True):
            moment = datetime.fromtimestamp(numbers[0], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            assert line[0] == moment
            assert line[3:] == ["" if value is None else str(value) for value in numbers[3:]]
            assert not line[1].startswith("=")
            assert not line[2].startswith("@")
    pods = files.read("north-1/pod_1m.csv").decode()
    assert "'=cmd|' /C calc'!A0,'@SUM(1+9)" in pods
    assert ",-5," in files.read("north-1/node_1m.csv").decode()  # a number stays a number
    assert "'-1" in files.read("north-1/windows.csv").decode()


def test_series_ledger_and_a_list_with_units_are_there(cluster, stored, tmp_path):
    done, files = export(cluster, "parquet", tmp_path / "one.zip")
    series = pq.read_table(io.BytesIO(files.read("north-1/series.parquet"))).to_pylist()
    assert [one["node"] for one in series if one["name"] == EVIL.name] == ["n1"]
    assert {one["kind"] for one in series} == {"cluster", "node", "pod"}
    windows = pq.read_table(io.BytesIO(files.read("north-1/windows.parquet"))).to_pylist()
    assert [line["state"] for line in windows] == ["done", "gap"]
    listed = json.loads(files.read("export.json"))
    assert listed["rows"] == done.rows == sum(
        part["rows"] for part in listed["files"] if "_" in part["name"]
    )  # fmt: skip
    assert set(listed["fields"]) == set(CATALOG)
    assert listed["fields"]["pod"]["cpu_mc"]["unit"] == "millicores"
    assert b"Data that Ops Center stored of north-1" in files.read("README.txt")


def test_a_range_is_cut_exactly(cluster, stored, tmp_path):
    start, end = T0 + 600, T0 + 1200
    _, files = export(cluster, "parquet", tmp_path / "cut.zip", start, end)
    table = pq.read_table(io.BytesIO(files.read("north-1/pod_1m.parquet")))
    assert table.num_rows == 2 * 10
    assert "north-1/node_1h.parquet" not in files.namelist()


def test_memory_does_not_grow_with_the_length(cluster, tmp_path, monkeypatch):
    """A million cells go through in blocks; only one block is in memory."""
    cell = Cell(1, 5, 4, 6)
    key = SeriesKey("pod", "shop", "cart")

    def peak(rows: int, form: str) -> int:
        def scan(self, pk, kind, tier, start, end):
            if (kind, tier) == ("pod", "1m"):
                for number in range(rows):
                    yield StoredRow(60 * number, key, 1, (cell,) * len(FIELD_NAMES["pod"]))

        monkeypatch.setattr(type(get_store()), "scan", scan)
        tracemalloc.start()
        export(cluster, form, tmp_path / f"{rows}.{form}.zip")
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    monkeypatch.setattr(formats, "BLOCK_ROWS", 2_000)
    for form in ("csv", "parquet"):
        assert peak(40_000, form) < 1.3 * peak(8_000, form) + (1 << 20)


def test_a_request_is_made_fetched_and_swept_each_in_the_audit_log(cluster, stored, admin):
    export = jobs.request(stored, form="parquet", actor=admin, now=NOW)
    with pytest.raises(ConflictError, match=r"^an export of it is already running"):
        jobs.request(stored, form="csv", actor=admin)
    claimed = jobs.claim(NOW)
    assert claimed == export
    assert jobs.claim(NOW) is None
    jobs.make(export.pk)
    export.refresh_from_db()
    assert (export.state, export.done_ratio, export.problem) == ("ready", 1.0, "")
    path = jobs.path_of(export)
    assert export.size_bytes == path.stat().st_size
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    jobs.record_download(export, actor=admin)
    jobs.sweep(export.finished_at + timedelta(days=6))
    assert path.exists()
    jobs.sweep(export.finished_at + timedelta(days=8))
    assert not path.exists()
    assert not Export.objects.exists()
    lines = AuditEvent.objects.filter(action__startswith="data.")
    assert [(line.actor, line.action, line.detail["of"]) for line in lines] == [
        ("admin", "data.export", "Northwind"), ("admin", "data.download", "Northwind"),
    ]  # fmt: skip


def test_customers_take_turns(cluster, foreign_cluster, admin):
    def ask(target, minute):
        return jobs.request(target, form="csv", actor=admin, now=NOW + timedelta(minutes=minute))

    first, second = ask(cluster, 0), ask(cluster.customer, 1)
    other = ask(foreign_cluster, 2)
    order = []
    for minute in range(3):
        order.append(jobs.claim(NOW + timedelta(minutes=10 + minute)).pk)
        Export.objects.filter(pk=order[-1]).update(state="ready")
    assert order == [first.pk, other.pk, second.pk]


def test_a_process_that_died_leaves_the_export_to_the_next(cluster, stored, admin):
    export = jobs.request(cluster, form="csv", actor=admin, now=NOW)
    assert jobs.claim(NOW) == export
    assert jobs.claim(NOW + timedelta(seconds=100)) is None
    assert jobs.claim(NOW + timedelta(seconds=121)) == export
    assert jobs.claim(NOW) == export  # what was seen in the future shows no life
    jobs.make(export.pk)
    assert Export.objects.get().state == "ready"


def test_a_worker_that_ends_takes_its_export_with_it_and_leaves_no_part(cluster, stored, admin):
    export = jobs.request(cluster, form="csv", actor=admin)
    jobs.claim(datetime.now(UTC))
    jobs.make(export.pk, alive=lambda: False)
    assert Export.objects.get().state == "running"
    assert list(jobs.directory().iterdir()) == []


def test_an_export_that_is_deleted_stops_and_leaves_no_file(cluster, stored, admin):
    export = jobs.request(cluster, form="csv", actor=admin)
    jobs.claim(datetime.now(UTC))

    def delete_it() -> bool:
        jobs.remove(export, actor=admin)
        return True

    pk = export.pk
    jobs.make(pk, alive=delete_it)
    assert not Export.objects.exists()
    assert list(jobs.directory().iterdir()) == []


@pytest.mark.parametrize(
    ("what", "said"),
    [("room", "on the disk"), ("store", "cannot be read"), ("disk", "No space left on device")],
)
def test_what_goes_wrong_is_said_in_its_row_without_naming_files(
    cluster, stored, admin, monkeypatch, caplog, what, said
):
    export = jobs.request(cluster, form="csv", actor=admin)
    jobs.claim(datetime.now(UTC))

    def refuse(*args):
        if what == "store":
            raise StoreError("/secret/metrics.sqlite3 is damaged")
        raise OSError(28, "No space left on device", "/secret/exports")

    if what == "room":
        monkeypatch.setattr(jobs, "LEAST_FREE_BYTES", 1 << 60)
    else:
        monkeypatch.setattr(type(get_store()), "scan", refuse)
    jobs.make(export.pk)
    export.refresh_from_db()
    assert export.state == "failed"
    assert said in export.problem
    assert "secret" not in export.problem
    assert what == "room" or "/secret/" in caplog.text
    assert list(jobs.directory().iterdir()) == []


@pytest.mark.usefixtures("starts_servers")
def test_a_process_that_is_killed_leaves_no_part(cluster, stored, admin, settings, tmp_path):
    export = jobs.request(cluster, form="csv", actor=admin)
    part = part_of(jobs.path_of(export))
    settings.BASE_DIR = tmp_path
    (tmp_path / "manage.py").write_text(
        f"import os, pathlib\npathlib.Path({str(part)!r}).touch()\nos.kill(os.getpid(), 9)\n"
    )
    assert jobs.work() == 1
    export.refresh_from_db()
    assert (export.state, export.problem) == ("failed", "the process that made it ended (-9)")
    assert list(jobs.directory().iterdir()) == []


def test_an_export_that_is_deleted_in_the_last_moment_stays_deleted(cluster, stored, admin):
    export = jobs.request(cluster, form="csv", actor=admin)
    pk = export.pk
    jobs.claim(datetime.now(UTC))
    whole = Zip.close

    def close(self):
        whole(self)
        Export.objects.filter(pk=pk).delete()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Zip, "close", close)
        jobs.make(pk)
    assert not Export.objects.exists()
    assert list(jobs.directory().iterdir()) == []


def test_of_one_target_the_newest_two_files_are_kept(cluster, stored, admin):
    for number in range(4):
        export = jobs.request(cluster, form="csv", actor=admin, now=NOW + timedelta(hours=number))
        jobs.claim(NOW + timedelta(hours=number))
        jobs.make(export.pk)
    assert Export.objects.count() == 2
    assert len(list(jobs.directory().iterdir())) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [({"form": "xml"}, "format"), ({"form": "csv", "start": 5, "end": 5}, "the range is empty")],
)
def test_a_request_that_makes_no_sense_is_refused(cluster, admin, options, said):
    with pytest.raises(InvalidInputError, match=said):
        jobs.request(cluster, actor=admin, **options)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_the_command_writes_a_directory_that_only_its_owner_reads(
    stored, tmp_path, capsys, form, cluster
):
    out = tmp_path / "out"
    call_command("export_metrics", customer="Northwind", format=form, out=str(out))
    files = [path for path in out.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == {"north-1", "north-2", "out"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert not [path for path in files if path.name.startswith(".")]
    said = capsys.readouterr()
    assert "rows" in said.out
    assert "%" in said.err
    assert AuditEvent.objects.get(action="data.export").actor == "manage.py"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"customer": "Nobody", "out": "x"}, "there is no customer Nobody"),
        ({"cluster": "north-1"}, "--out"),
        ({"cluster": "north-1", "out": "x", "start": "soon"}, "not an ISO 8601 time"),
        ({"cluster": "north-1", "out": "x", "start": "2100-01-01"}, "the range is empty"),
    ],
)
def test_the_command_says_what_does_not_fit(cluster, capsys, options, said):
    with pytest.raises(SystemExit) as ended:
        call_command("export_metrics", **options)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_the_history_of_states_is_exported(cluster, tmp_path):
    moment = datetime.fromtimestamp(T0, UTC)
    ClusterEvent.objects.create(
        cluster=cluster, key="filesystem:n1:=1+1", level="critical", text="full",
        began_at=moment, began_at_least=True, began_known_at=moment + timedelta(minutes=1),
    )  # fmt: skip
    done, files = export(cluster, "csv", tmp_path / "all.zip")
    name = f"{cluster.name}/history.csv"
    (line,) = csv.DictReader(io.StringIO(files.read(name).decode()))
    assert line == {
        "key": "filesystem:n1:'=1+1", "level": "critical", "text": "full",
        "began": "2023-11-14T22:00:00Z", "began_at_least": "yes",
        "began_known": "2023-11-14T22:01:00Z", "ended": "", "ended_known": "", "ending": "",
    }  # fmt: skip
    assert {"name": name, "rows": 1} in done.files
