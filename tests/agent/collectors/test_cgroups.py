from tests.agent.machine import pods, rows


def unit_v2(machine, path, *, usec, current, inactive=0, anon=0, populated=1):
    directory = machine.cgroup / path
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cpu.stat").write_text(f"usage_usec {usec}\nuser_usec 1\nsystem_usec 1\n")
    (directory / "memory.current").write_text(f"{current}\n")
    (directory / "memory.stat").write_text(f"anon {anon}\nfile 9\ninactive_file {inactive}\n")
    (directory / "cgroup.events").write_text(f"populated {populated}\nfrozen 0\n")


async def test_systemd_units_of_version_2_have_exact_numbers(machine):
    (machine.cgroup / "cgroup.controllers").write_text("cpu memory\n")
    nginx, tty = "system.slice/nginx.service", "system.slice/system-getty.slice/getty@tty1.service"
    escaped = "system.slice/systemd-fsck@dev-disk-by\\x2dlabel.service"
    session = "user.slice/user-1000.slice"
    unit_v2(machine, nginx, usec=5_000_000, current=900_000, inactive=300_000, anon=500_000)
    unit_v2(machine, tty, usec=0, current=4096)
    unit_v2(machine, escaped, usec=0, current=4096)
    unit_v2(machine, session, usec=0, current=10**6)
    unit_v2(machine, f"{session}/session-3.scope", usec=0, current=10**6)
    unit_v2(machine, "system.slice/gone.service", usec=1, current=0, populated=0)
    unit_v2(machine, "init.scope", usec=0, current=4096)
    collector = machine.collector()
    collected = await collector.collect(0)
    found = rows(collected, "pod")
    assert sorted(found) == [
        "getty@tty1.service",
        "init.scope",
        "nginx.service",
        "systemd-fsck@dev-disk-by-label.service",
        "user-1000.slice",
    ]
    assert found["nginx.service"]["cpu_mc"] is None
    machine.now += 10
    unit_v2(machine, nginx, usec=7_500_000, current=100, inactive=300_000, anon=500_000)
    collected = await collector.collect(0)
    found = rows(collected, "pod")
    assert found["nginx.service"] == {
        "cpu_mc": 250,
        "mem_ws": 0,
        "mem_rss": 500_000,
        "fs_used": None,
        "net_rx_bps": None,
        "net_tx_bps": None,
        "restarts": None,
    }
    [sample] = [s for s in collected.samples if s.name == "nginx.service"]
    assert sample.attrs == {"unit": "nginx.service", "cgroup": nginx}
    assert (sample.ns, sample.node) == ("host", "box")
    # Restarted: the counter begins anew.
    machine.now += 10
    unit_v2(machine, nginx, usec=10, current=100)
    assert (await pods(collector))["nginx.service"]["cpu_mc"] is None


async def test_systemd_units_of_version_1_have_exact_numbers(machine):
    def write(usage_ns):
        cpu = machine.cgroup / "cpu,cpuacct"
        (cpu / "system.slice/sshd.service").mkdir(parents=True, exist_ok=True)
        (cpu / "cpuacct.usage").write_text("1\n")
        (cpu / "system.slice/sshd.service/cpuacct.usage").write_text(f"{usage_ns}\n")
        memory = machine.cgroup / "memory/system.slice/sshd.service"
        memory.mkdir(parents=True, exist_ok=True)
        (memory / "memory.usage_in_bytes").write_text("800000\n")
        (memory / "memory.stat").write_text("rss 1\ntotal_rss 4000\ntotal_inactive_file 300000\n")

    write(10**9)
    collector = machine.collector()
    await collector.collect(0)
    machine.now += 20
    write(3 * 10**9)
    values = (await pods(collector))["sshd.service"]
    assert (values["cpu_mc"], values["mem_ws"], values["mem_rss"]) == (100, 500_000, 4000)


async def test_without_memory_accounting_the_cpu_is_still_there(machine):
    (machine.cgroup / "cgroup.controllers").write_text("cpu\n")
    unit_v2(machine, "system.slice/a.service", usec=0, current=1)
    for name in ("memory.current", "memory.stat"):
        (machine.cgroup / "system.slice/a.service" / name).unlink()
    collector = machine.collector()
    await collector.collect(0)
    machine.now += 10
    (machine.cgroup / "system.slice/a.service/cpu.stat").write_text("usage_usec 1000000\n")
    values = (await pods(collector))["a.service"]
    assert (values["cpu_mc"], values["mem_ws"], values["mem_rss"]) == (100, None, None)


async def test_a_cgroup_tree_without_services_gives_way_to_process_groups(machine):
    (machine.cgroup / "cgroup.controllers").write_text("cpu memory\n")
    machine.process(10, "nginx")
    assert list(await pods(machine.collector())) == ["nginx"]


ID = "5f0c" * 16
UID = "0b6f5a0e-5b1f-4f6e-9d53-6a1f0c1d2e3f"


async def test_containers_of_engines_beside_systemd_are_units(machine):
    (machine.cgroup / "cgroup.controllers").write_text("cpu memory\n")
    for path in (
        "system.slice/ssh.service",
        f"docker/{ID}",
        f"docker/{ID}/init",  # what a container has inside is its own
        f"kubepods/burstable/pod{UID}",
        f"kubepods/burstable/pod{UID}/{ID}",
        f"kubepods/pod{UID[::-1]}",
        f"kubepods/besteffort/pod{UID.replace('0', '1')}",
        "lxc/web",
        "lxc/web/system.slice/ssh.service",
        "lxc.payload.db",
        f"batch/{ID}",
        "somebodys",
        "somebodys/part",
        "dev-hugepages.mount",
    ):
        unit_v2(machine, path, usec=0, current=4096)
    unit_v2(machine, "docker/gone", usec=0, current=0, populated=0)
    found = await pods(machine.collector())
    assert sorted(found) == sorted([
        "ssh.service", "docker-5f0c5f0c5f0c", f"pod{UID}", f"pod{UID[::-1]}",
        f"pod{UID.replace('0', '1')}", "lxc-web", "lxc.payload.db", "batch-5f0c5f0c5f0c",
        "somebodys",
    ])  # fmt: skip


async def test_what_is_no_utf_8_in_a_units_name_stays_escaped(machine):
    (machine.cgroup / "cgroup.controllers").write_text("cpu memory\n")
    for name in ("a\\xff.service", "\\xe2\\x82\\xac\\x2dx.service"):
        unit_v2(machine, f"system.slice/{name}", usec=0, current=4096)
    assert sorted(await pods(machine.collector())) == ["a\\xff.service", "\u20ac-x.service"]
