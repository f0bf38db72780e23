import pytest

from agent.collectors.units import Unit, keep_largest
from tests.agent.machine import pods, rows

PAGE = 4096


async def test_process_groups_have_exact_numbers(machine):
    machine.process(1, "init", parent=0)
    machine.process(2, "kthreadd", parent=0, flags=0x00200000, resident=0)
    machine.process(10, "nginx", cmdline="nginx: master process", ticks=100)
    machine.process(11, "nginx", cmdline="nginx: worker process", parent=10, ticks=50)
    collector = machine.collector()
    first = await pods(collector)
    assert first["nginx"] == {
        "cpu_mc": None,
        "mem_ws": 2 * 60 * PAGE,
        "mem_rss": 2 * 100 * PAGE,
        "fs_used": None,
        "net_rx_bps": None,
        "net_tx_bps": None,
        "restarts": None,
    }
    assert first["kernel"]["mem_rss"] is None
    machine.now += 10
    machine.process(10, "nginx", cmdline="nginx: master process", ticks=150)
    machine.process(11, "nginx", cmdline="nginx: worker process", parent=10, ticks=250)
    second = await pods(collector)
    assert second["nginx"]["cpu_mc"] == 250
    assert second["init"]["cpu_mc"] == 0


async def test_processes_that_come_and_go_within_an_interval_count(machine):
    machine.process(20, "make", ticks=0)
    machine.process(21, "cc1plus", parent=20, ticks=300, started=200)
    collector = machine.collector()
    await collector.collect(0)
    machine.now += 10
    machine.end(21)  # used 50 more before it ended
    # Two compilers that were never seen used 250; a new one is still running.
    machine.process(20, "make", ticks=10, children=350 + 250)
    machine.process(25, "cc1plus", parent=20, ticks=80, started=900)
    machine.cpu(user=1000 + 400)
    found = await pods(collector)
    assert found["make"]["cpu_mc"] == 10 + 50 + 250
    assert found["cc1plus"]["cpu_mc"] == 80


async def test_a_child_that_changes_its_parent_makes_no_spike(machine):
    machine.process(1, "init", parent=0)
    machine.process(30, "shell", ticks=1)
    machine.process(31, "daemon", parent=30, ticks=1_000_000)
    collector = machine.collector()
    await collector.collect(0)
    machine.now += 10
    machine.end(30)
    machine.end(31)  # inherited and waited for by init in between
    machine.process(1, "init", parent=0, children=1_000_000)
    machine.cpu(user=1000 + 20)
    assert (await pods(collector))["init"]["cpu_mc"] <= 20


async def test_a_process_id_used_again_is_another_process(machine):
    machine.process(40, "batch", ticks=5000, started=100)
    collector = machine.collector()
    await collector.collect(0)
    machine.now += 10
    machine.process(40, "batch", ticks=70, started=777)
    assert (await pods(collector))["batch"]["cpu_mc"] == 70


async def test_a_process_that_runs_another_program_changes_its_group(machine):
    machine.process(50, "sh", cmdline="sh /opt/start.sh", ticks=10)
    collector = machine.collector()
    assert "sh:start.sh" in await pods(collector)
    machine.now += 10
    machine.process(50, "server", cmdline="/opt/server --password hunter2", ticks=60)
    found = await pods(collector)
    assert found["server"]["cpu_mc"] == 50
    assert "sh:start.sh" not in found


@pytest.mark.parametrize(
    ("comm", "cmdline", "name"),
    [
        ("python3", "/usr/bin/python3 -u /srv/app/manage.py run", "python3:manage.py"),
        ("python3.11", "python3.11 -m agent run", "python3.11:agent"),
        ("python3", "python3 -W ignore -c import-secret-thing", "python3"),
        ("java", "java -Xmx1g -cp /a:/b -jar /opt/app.jar --token=x", "java:app.jar"),
        ("bash", "-bash", "bash"),
        ("bash", "bash /dev/fd/3", "bash"),
        ("node", "node /srv/index.js", "node:index.js"),
        ("celery", "/venv/bin/python /venv/bin/celery worker", "celery"),
        ("systemd-journal", "/lib/systemd/systemd-journald", "systemd-journald"),
        ("postgres", "postgres: checkpointer", "postgres"),
        ("a) b (c", "", "a) b (c"),
        ("kube-apiserver", "kube-apiserver --secret=1", "kube-apiserver"),
    ],
)
async def test_a_command_is_named_without_its_arguments(machine, comm, cmdline, name):
    machine.process(60, comm, cmdline=cmdline)
    assert list(await pods(machine.collector())) == [name]


async def test_a_process_hidden_from_us_is_still_counted_by_its_command(machine):
    machine.process(70, "python3", cmdline="python3 x.py")
    (machine.proc / "70" / "statm").unlink()
    (machine.proc / "70" / "cmdline").unlink()
    found = await pods(machine.collector())
    assert found["python3"]["mem_rss"] is None


async def test_at_most_five_hundred_groups_and_the_rest_together(machine):
    for n in range(620):
        machine.process(1000 + n, f"p{n:03d}", resident=1000 + n, shared=0)
    collected = await machine.collector().collect(0)
    found = rows(collected, "pod")
    assert len(found) == 500
    assert rows(collected, "node")["box"]["pods"] == 500
    assert "p619" in found
    assert "p000" not in found
    assert found["other"]["mem_ws"] == sum(1000 + n for n in range(121)) * PAGE


def test_a_group_reported_before_does_not_flicker():
    units = [Unit(f"u{n}", mem_ws=1000 - n) for n in range(20)]
    largest = keep_largest(units, cpu_cap_mc=1000, mem_cap=1000, limit=11)
    assert [u.name for u in largest][-1] == "other"
    names = frozenset(u.name for u in largest)
    units[9].mem_ws, units[10].mem_ws = 985, 995
    again = keep_largest(units, cpu_cap_mc=1000, mem_cap=1000, limit=11, stay=names)
    assert {u.name for u in again} == names
