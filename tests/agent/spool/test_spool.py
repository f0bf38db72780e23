import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.catalog import FIELDS
from agent.samples import make_sample
from agent.spool.minutes import Minute
from agent.spool.spool import Spool, SpoolError, SpoolFile
from tests.examples import examples

T0 = 1_800_000_000 // 60 * 60
MB = 2**20


def open_spool(path: Path, *, max_bytes: int = 64 * MB, max_seconds: int = 7 * 86400) -> SpoolFile:
    return SpoolFile(path, max_bytes=max_bytes, max_seconds=max_seconds)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.sqlite3"


def node(value: int, name: str = "n1"):
    return make_sample("node", name, {"cpu_mc": value}, attrs={"kernel": "6.1"})


def cells(spool: SpoolFile, start: int = T0, end: int = T0 + 86400):
    """Return {minute: {series name: (n, sum, min, max) of cpu_mc}}."""
    found: dict[int, dict[str, tuple[int, ...]]] = {}
    for at, kind, data in spool.minutes(start, end, ["node"]):
        for sid, row in Minute.unpack(kind, data).cells.items():
            series = spool.series(sid)
            assert series is not None
            found.setdefault(at, {})[series.name] = tuple(row[:4])
    return found


def test_samples_of_a_minute_become_one_cell(path):
    spool = open_spool(path)
    for second, value in ((0, 100), (15, 50), (30, 70), (45, 20)):
        spool.add(T0 + second, [node(value)])
    spool.add(T0 + 60, [node(5)])
    assert cells(spool) == {T0: {"n1": (4, 240, 20, 100)}, T0 + 60: {"n1": (1, 5, 5, 5)}}


def test_a_name_twice_in_one_sample_counts_once(path):
    spool = open_spool(path)
    spool.add(T0, [node(1), node(1000)])
    assert cells(spool) == {T0: {"n1": (1, 1, 1, 1)}}


def test_a_restart_continues_the_open_minute(path):
    spool = open_spool(path)
    spool.add(T0, [node(100)])
    spool.close()
    spool = open_spool(path)
    spool.add(T0 + 15, [node(50), node(7, "n2")])
    assert cells(spool) == {T0: {"n1": (2, 150, 50, 100), "n2": (1, 7, 7, 7)}}
    series = spool.series(1)
    assert series is not None
    assert (series.name, series.attrs) == ("n1", b'{"kernel":"6.1"}')


def test_a_clock_that_goes_back_doubles_no_minute(path):
    spool = open_spool(path)
    for second in (0, 60, 120, 0, 60, 180):
        spool.add(T0 + second, [node(10)])
    assert {t: row["n1"][0] for t, row in cells(spool).items()} == {
        T0: 2,
        T0 + 60: 2,
        T0 + 120: 1,
        T0 + 180: 1,
    }


@settings(max_examples=examples(40), deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 9), st.sampled_from("ab"), st.booleans()),
        max_size=25,
    )
)
def test_any_order_of_samples_and_restarts_counts_every_sample_once(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("spool") / "s.sqlite3"
    spool = open_spool(path)
    expected: dict[tuple[int, str], list[int]] = {}
    for second, value, name, restart in steps:
        spool.add(T0 + second, [node(value, name)])
        expected.setdefault((T0 + second // 60 * 60, name), []).append(value)
        if restart:
            spool.close()
            spool = open_spool(path)
    found = {(t, name): cell for t, row in cells(spool).items() for name, cell in row.items()}
    spool.close()
    assert found == {key: (len(v), sum(v), min(v), max(v)) for key, v in expected.items()}


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from agent.samples import make_sample
    from agent.spool.spool import SpoolFile

    spool = SpoolFile(Path(sys.argv[1]), max_bytes=2**26, max_seconds=7 * 86400)
    start, first = int(sys.argv[2]), int(sys.argv[3])
    for step in range(first, 10**9):
        pods = [make_sample("pod", f"p{n}", {"cpu_mc": step}, ns="d") for n in range(40)]
        spool.add(start + 15 * step, [make_sample("node", "n1", {"cpu_mc": step}), *pods])
        print(step, flush=True)
    """
)


@pytest.mark.usefixtures("starts_servers")
def test_kill_9_while_writing_loses_at_most_the_sample_being_written(path):
    following = 0
    for _ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(T0), str(following)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        assert process.stdout is not None
        reported = -1
        for line in process.stdout:
            reported = int(line)
            if reported >= following + 23:
                process.send_signal(signal.SIGKILL)
                break
        reported = max([reported, *map(int, process.stdout.read().split())])
        process.wait()
        spool = open_spool(path)
        minutes = cells(spool)
        total = sum(row["n1"][0] for row in minutes.values())
        # Every reported sample is there; one more may have been written and not reported.
        assert reported + 1 <= total <= reported + 2
        for at, row in minutes.items():
            steps = [s for s in range(total) if (T0 + 15 * s) // 60 * 60 == at]
            assert row["n1"] == (len(steps), sum(steps), min(steps), max(steps))
        spool.close()
        following = total
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_two_agents_do_not_share_a_spool(path):
    spool = open_spool(path)
    with pytest.raises(SpoolError, match="in use by another agent"):
        open_spool(path)
    spool.close()


def test_nobody_else_may_read_the_spool(path):
    spool = open_spool(path)
    spool.add(T0, [node(1)])
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    spool.close()


def test_a_directory_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(SpoolError, match="no-such"):
        open_spool(tmp_path / "no-such" / "spool.sqlite3")


@pytest.mark.parametrize("junk", [b"hello, this is no database" * 500, b"\0" * 8192, b"SQLite"])
def test_a_file_that_is_no_spool_is_moved_aside(path, junk, caplog):
    path.write_bytes(junk)
    spool = open_spool(path)
    spool.add(T0, [node(1)])
    assert cells(spool) == {T0: {"n1": (1, 1, 1, 1)}}
    [aside] = path.parent.glob("spool.sqlite3.damaged-*")
    assert aside.read_bytes() == junk
    assert "is damaged" in caplog.text


def test_a_spool_of_a_newer_agent_is_moved_aside_not_misread(path):
    spool = open_spool(path)
    spool.add(T0, [node(1)])
    spool.close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    spool = open_spool(path)
    assert cells(spool) == {}
    assert len(list(path.parent.glob("*.damaged-*"))) == 1


def test_a_spool_with_a_destroyed_middle_is_detected_at_the_start(path):
    spool = open_spool(path)
    for minute in range(60):
        spool.add(T0 + 60 * minute, [node(minute * k, f"n{k}") for k in range(50)])
    spool.close()
    with path.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(path.stat().st_size - 5 * 4096))
    spool = open_spool(path)
    spool.add(T0, [node(3)])
    assert cells(spool)[T0]["n1"] == (1, 3, 3, 3)
    assert len(list(path.parent.glob("*.damaged-*"))) == 1


def test_damage_while_running_costs_the_past_but_not_the_open_minute(path):
    spool = open_spool(path)
    for minute in range(120):
        spool.add(T0 + 60 * minute, [node(minute * k, f"n{k}") for k in range(50)])
    spool.close()
    spool = open_spool(path)
    now = T0 + 60 * 120
    spool.add(now, [node(8)])
    spool._disk._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    spool._disk._db.execute("PRAGMA shrink_memory")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    spool.add(now + 15, [node(9)])
    for second in (30, 45, 60):
        spool.add(now + second, [node(9)])
    found = cells(spool)
    assert found[now]["n1"] == (4, 35, 8, 9)
    assert found[now + 60]["n1"] == (1, 9, 9, 9)
    assert spool.error == ""


def fill(spool: SpoolFile, minutes: int, *, first: int = 0, pods: int = 200) -> None:
    rng = __import__("random").Random(first)
    for minute in range(first, first + minutes):
        rows = [
            make_sample(
                "pod", f"p{n}", {f: rng.getrandbits(40) for f in FIELDS["pod"]}, ns="default"
            )
            for n in range(pods)
        ]
        spool.add(T0 + 60 * minute, [node(minute), *rows])


def test_the_file_never_outgrows_its_bound_and_keeps_the_newest(path):
    bound = 4 * MB
    spool = open_spool(path, max_bytes=bound)
    biggest = 0
    for part in range(20):
        fill(spool, 40, first=part * 40)
        biggest = max(biggest, sum(f.stat().st_size for f in path.parent.iterdir()))
    assert biggest <= bound
    stored = cells(spool, T0, T0 + 60 * 800)
    assert max(stored) == T0 + 60 * 799
    assert len(stored) > 60
    assert sorted(stored) == list(range(min(stored), max(stored) + 60, 60))
    assert spool.error == ""


def test_a_lower_bound_after_a_restart_shrinks_the_file(path):
    spool = open_spool(path)
    fill(spool, 600)
    assert spool.size_bytes() > 5 * MB
    spool.close()
    spool = open_spool(path, max_bytes=4 * MB)
    fill(spool, 2, first=600)
    assert spool.size_bytes() <= 4 * MB
    assert max(cells(spool, T0, T0 + 60 * 700)) == T0 + 60 * 601


def test_minutes_and_series_older_than_the_limit_go(path):
    spool = open_spool(path, max_seconds=3600)
    spool.add(T0, [node(1, "gone")])
    for minute in range(1, 400):
        spool.add(T0 + 60 * minute, [node(1)])
    stored = cells(spool)
    assert min(stored) == T0 + 60 * (399 - 60)
    assert [series.name for series in spool._series._by_sid.values()] == ["n1"]


def test_a_clock_far_in_the_future_for_a_moment_does_not_empty_the_spool(path):
    spool = open_spool(path)
    for minute in range(600):
        spool.add(T0 + 60 * minute, [node(1)])
    spool.add(T0 + 10 * 365 * 86400, [node(1)])
    for minute in range(600, 610):
        spool.add(T0 + 60 * minute, [node(1)])
    assert len(cells(spool)) >= 540


FULL_DISK = textwrap.dedent(
    """
    import resource, sys
    from pathlib import Path
    from agent.samples import make_sample
    from agent.spool.spool import SpoolFile

    start = int(sys.argv[2])
    def add(minute):
        rows = [make_sample("node", f"n{k}", {"cpu_mc": minute * k}) for k in range(300)]
        spool.add(start + 60 * minute, rows)

    spool = SpoolFile(Path(sys.argv[1]), max_bytes=2**26, max_seconds=7 * 86400)
    minute = 0
    for minute in range(5):
        add(minute)
    size = Path(sys.argv[1] + "-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    for minute in range(5, 25):
        add(minute)
    assert spool.error, "the disk took what it could not"
    held = {t for t, _, _ in spool.minutes(start, start + 60 * 100)}
    assert held == {start + 60 * m for m in range(25)}, "unwritten minutes are served from memory"
    for minute in range(25, 100):
        add(minute)
    assert len(spool._waiting) <= 60
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    add(100)
    assert spool.error == "", spool.error
    spool.close()
    """
)


@pytest.mark.usefixtures("starts_servers")
def test_a_disk_that_accepts_nothing_loses_nothing_of_the_last_hour(path):
    script = [sys.executable, "-c", FULL_DISK, str(path), str(T0)]
    done = subprocess.run(
        script, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    spool = open_spool(path)
    stored = sorted(cells(spool))
    assert stored[-60:] == [T0 + 60 * minute for minute in range(41, 101)]
    assert stored[:5] == [T0 + 60 * minute for minute in range(5)]


def test_the_state_counts_closed_minutes_only(path):
    spool = open_spool(path)
    assert spool.state(T0).oldest is None
    spool.add(T0 + 1, [node(1)])
    assert spool.state(T0 + 59).oldest is None
    state = spool.state(T0 + 65)
    assert (state.oldest, state.newest_end) == (T0, T0 + 60)
    assert state.size_bytes == sum(f.stat().st_size for f in path.parent.iterdir())


def test_a_gap_of_years_costs_nothing_to_read_over(path):
    spool = open_spool(path, max_seconds=2 * T0)
    spool.add(60, [node(1)])
    spool.add(T0, [node(2)])
    assert list(cells(spool, 0, T0 + 60)) == [60, T0]


async def test_the_spool_for_coroutines_keeps_its_work_off_the_loop(path):
    spool = await Spool.open(path)
    await spool.add(T0, [node(1)])
    state = await spool.state(T0 + 120)
    assert (state.oldest, state.newest_end) == (T0, T0 + 60)
    threads = {
        await spool.call(lambda _: __import__("threading").current_thread().name) for _ in range(3)
    }
    assert len(threads) == 1
    assert threads.pop().startswith("spool")
    await spool.close()


def test_three_hundred_pods_fit_for_a_week(path):
    """Bytes on disk a row, measured on walks like those of real pods, times a week's rows."""
    rng = __import__("random").Random(7)
    spool = open_spool(path)
    level = [[rng.lognormvariate(4, 1.5) for _ in range(7)] for _ in range(300)]
    minutes = 40
    for step in range(minutes * 4):
        rows = []
        for n, pod in enumerate(level):
            busy = n % 5 < 3
            for at in range(7):
                pod[at] *= 1 + busy * rng.uniform(-0.05, 0.05)
            rows.append(
                make_sample(
                    "pod",
                    f"pod-{n}",
                    {
                        "cpu_mc": pod[0],
                        "mem_ws": int(pod[1] * 2**20) // 4096 * 4096,
                        "mem_rss": int(pod[2] * 2**20) // 4096 * 4096,
                        "fs_used": int(pod[3] * 2**16) // 4096 * 4096,
                        "net_rx_bps": pod[4] * 1000 * busy,
                        "net_tx_bps": pod[5] * 1000 * busy,
                        "restarts": 0,
                    },
                    ns="default",
                )
            )
        spool.add(T0 + 15 * step, rows)
    spool.add(T0 + 60 * minutes, [node(1)])
    used = spool._disk._used_pages() * 4096
    a_row = used / (300 * minutes)
    print(f"{a_row:.1f} bytes a pod's minute")
    assert a_row * 300 * 7 * 1440 < 504 * MB
