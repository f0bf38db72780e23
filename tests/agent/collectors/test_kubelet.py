import pytest

from agent.catalog import FIELDS
from agent.collectors.base import CollectorError
from agent.collectors.kubefields import timestamp
from agent.collectors.kubelet import KubeletCollector
from tests.agent.kubernetes import GIB, node, pod, pod_stats, real_answer, real_pods, summary

NOW = 1_800_000_000.0


@pytest.fixture
async def hasty_collector(access):
    collector = KubeletCollector(access, list_seconds=30, summary_seconds=3)
    yield collector
    await collector.close()


def rows(collected, kind):
    return {
        (sample.ns, sample.name): dict(zip(FIELDS[kind], sample.values, strict=True))
        for sample in collected.samples
        if sample.kind == kind
    }


def attrs(collected, kind, name):
    return next(s.attrs for s in collected.samples if s.kind == kind and s.name == name)


async def test_nodes_pods_and_filesystems_have_exact_numbers(kubernetes, collector):
    await collector.collect(NOW)
    kubernetes.summaries["n1"] = summary("n1", kubernetes.pods, at=NOW + 15, rx=10**9 + 30_000)
    collected = await collector.collect(NOW + 15)
    assert collected.problems == {}
    assert rows(collected, "node")["", "n1"] == {
        "cpu_mc": 1250,
        "cpu_cap_mc": 4000,
        "mem_ws": 5 * GIB,
        "mem_cap": 16_393_164 * 1024,
        "fs_used": 35 * GIB,
        "fs_cap": 100 * GIB,
        "inodes_total": 6_258_720,
        "inodes_free": 6_120_096,
        "net_rx_bps": 2000,
        "net_tx_bps": 1000,
        "load1_m": None,
        "uptime_s": 86_400,
        "pods": 1,
        "ready": 1,
        "etcd_fsync_us": None,
    }
    assert attrs(collected, "node", "n1") == {
        "roles": "control-plane",
        "kubelet": "v1.29.3",
        "os": "Debian GNU/Linux 12 (bookworm)",
        "kernel": "6.1.0-18-amd64",
        "arch": "amd64",
        "runtime": "containerd://1.7.13",
        "conditions": "DiskPressure",
    }
    assert rows(collected, "pod") == {
        ("shop", "web-6d4cf56db6-x2x9k"): {
            "cpu_mc": 152,
            "mem_ws": 100 * 2**20,
            "mem_rss": 80 * 2**20,
            "fs_used": 123_904,
            "net_rx_bps": 200,
            "net_tx_bps": 400,
            "restarts": 4,
        }
    }
    assert attrs(collected, "pod", "web-6d4cf56db6-x2x9k") == {
        "status": "CrashLoopBackOff",
        "ready": "0/2",
        "phase": "Running",
        "reason": "CrashLoopBackOff",
        "owner": "Deployment/web",
        "image": "registry.example/web:1.4 +1",
        "last_termination": "OOMKilled, exit code 137",
        "last_terminated_at": "2026-04-02T10:00:00Z",
    }
    disks = rows(collected, "filesystem")
    assert disks["n1", "nodefs"] == {
        "used": 35 * GIB,
        "cap": 100 * GIB,
        "inodes_total": 6_258_720,
        "inodes_free": 6_120_096,
    }
    assert disks["n1", "imagefs"]["used"] == 8 * GIB
    assert attrs(collected, "filesystem", "imagefs") == {"shares": "nodefs"}


async def test_an_image_filesystem_of_its_own_adds_to_the_node(kubernetes, collector):
    image = kubernetes.summaries["n1"]["node"]["runtime"]["imageFs"]
    image |= {"capacityBytes": 50 * GIB, "availableBytes": 42 * GIB}
    collected = await collector.collect(NOW)
    values = rows(collected, "node")["", "n1"]
    assert (values["fs_used"], values["fs_cap"]) == (43 * GIB, 150 * GIB)
    assert attrs(collected, "filesystem", "imagefs") == {}


async def test_lists_are_fetched_page_by_page_and_restarted_when_they_expire(kubernetes, collector):
    kubernetes.page_limit = 7
    kubernetes.pods = [pod("shop", f"web-{n}", "n2") for n in range(40)]
    kubernetes.expire_continue_once = True
    collected = await collector.collect(NOW)
    assert len(rows(collected, "pod")) == 40
    assert rows(collected, "node")["", "n2"]["pods"] == 40
    assert sum("pods?limit=500" in path for path in kubernetes.requests) == 1 + 1 + 6


async def test_a_node_that_does_not_answer_keeps_its_row_without_use(kubernetes, hasty_collector):
    kubernetes.nodes[0] = node("n1", ready="Unknown", role="control-plane")
    kubernetes.summaries["n1"] = None
    kubernetes.nodes.append(node("n3"))
    kubernetes.silent.add("n3")
    collected = await hasty_collector.collect(NOW)
    values = rows(collected, "node")
    assert values["", "n1"]["ready"] == 0
    assert values["", "n1"]["cpu_cap_mc"] == 4000
    assert values["", "n1"]["pods"] == 1
    assert {values["", "n1"][f] for f in ("cpu_mc", "mem_ws", "fs_used", "uptime_s")} == {None}
    assert values["", "n3"]["ready"] == 1
    assert values["", "n3"]["mem_ws"] is None
    assert values["", "n2"]["mem_ws"] == 5 * GIB
    assert collected.problems.keys() == {"n1", "n3"}
    assert collected.problems["n1"].startswith("its kubelet gives no numbers: ")
    assert "HTTP 503" in collected.problems["n1"]
    assert "no answer within 3 s" in collected.problems["n3"]
    # Its pods are still there, with what the API server knows.
    assert rows(collected, "pod")["shop", "web-6d4cf56db6-x2x9k"]["restarts"] == 4
    assert rows(collected, "pod")["shop", "web-6d4cf56db6-x2x9k"]["cpu_mc"] is None


async def test_a_kubelet_that_repeats_old_readings_gives_no_numbers(kubernetes, collector):
    for after in range(0, 181, 15):
        kubernetes.summaries["n1"] = summary("n1", kubernetes.pods, at=NOW + after)
        collected = await collector.collect(NOW + after)
    [problem] = [collected.problems[name] for name in collected.problems]
    assert list(collected.problems) == ["n2"]
    assert problem == "its kubelet gives no numbers: it repeats those of 2027-01-15 08:00:00 UTC"
    assert rows(collected, "node")["", "n2"]["mem_ws"] is None
    assert rows(collected, "node")["", "n2"]["ready"] == 1
    kubernetes.summaries["n2"] = summary("n2", [], at=NOW + 190)
    assert (await collector.collect(NOW + 195)).problems == {}


async def test_summaries_are_requested_at_the_same_time(kubernetes, collector):
    kubernetes.nodes = [node(f"n{n}") for n in range(30)]
    kubernetes.summaries = {f"n{n}": summary(f"n{n}", [], at=NOW) for n in range(30)}
    collected = await collector.collect(NOW)
    assert collected.problems == {}
    assert kubernetes.most_concurrent > 5


async def test_an_empty_summary_is_no_numbers_not_zeros(kubernetes, collector):
    for empty in ({}, {"node": {}, "pods": []}, {"node": None, "pods": None}):
        kubernetes.summaries["n2"] = empty
        values = rows(await collector.collect(NOW), "node")["", "n2"]
        known = {field for field, value in values.items() if value is not None}
        assert known == {"cpu_cap_mc", "mem_cap", "pods", "ready"}


@pytest.mark.parametrize(
    "answer", [b"", b"<html>", b"[]", b'{"node": NaN}', b'{"node": 5, "pods": {"a": 1}}', b"null"]
)
async def test_a_kubelet_that_answers_nonsense_costs_only_its_own_numbers(
    kubernetes, collector, answer
):
    kubernetes.summaries["n2"] = answer
    collected = await collector.collect(NOW)
    values = rows(collected, "node")
    assert values["", "n1"]["cpu_mc"] == 1250
    assert values["", "n2"]["cpu_mc"] is None


async def test_an_old_kubelet_reports_cpu_memory_and_disk_by_container(kubernetes, collector):
    [stats] = kubernetes.summaries["n1"]["pods"]
    for field in ("cpu", "memory", "ephemeral-storage"):
        del stats[field]
    values = rows(await collector.collect(NOW), "pod")["shop", "web-6d4cf56db6-x2x9k"]
    assert values["cpu_mc"] == 150
    assert values["mem_ws"] == 90 * 2**20
    assert values["fs_used"] == 61_440 + 28_672


async def test_cpu_comes_from_the_counter_if_there_is_no_rate(kubernetes, collector):
    def with_counter(at, counter):
        answer = summary("n2", [], at=at)
        del answer["node"]["cpu"]["usageNanoCores"]
        answer["node"]["cpu"]["usageCoreNanoSeconds"] = counter
        return answer

    kubernetes.summaries["n2"] = with_counter(NOW, 10**12)
    assert rows(await collector.collect(NOW), "node")["", "n2"]["cpu_mc"] is None
    kubernetes.summaries["n2"] = with_counter(NOW + 10, 10**12 + 5 * 10**9)
    assert rows(await collector.collect(NOW + 15), "node")["", "n2"]["cpu_mc"] == 500


async def test_counters_that_reset_or_rest_long_are_none_never_a_spike(kubernetes, collector):
    async def rx(at, counter):
        kubernetes.summaries["n2"] = summary("n2", [], at=at, rx=counter)
        return rows(await collector.collect(at), "node")["", "n2"]["net_rx_bps"]

    assert await rx(NOW, 5_000_000) is None
    assert await rx(NOW + 15, 5_015_000) == 1000
    assert await rx(NOW + 30, 2_000) is None  # the node restarted
    assert await rx(NOW + 45, 32_000) == 2000
    assert await rx(NOW + 3600, 10**12) is None
    assert await rx(NOW + 3615, 10**12 + 15_000) == 1000


async def test_a_pod_recreated_under_its_name_starts_new_rates(kubernetes, collector):
    await collector.collect(NOW)
    kubernetes.pods[0]["metadata"]["uid"] = "another"
    kubernetes.summaries["n1"] = summary("n1", kubernetes.pods, at=NOW + 15, rx=9 * 10**9)
    values = rows(await collector.collect(NOW + 15), "pod")
    assert values["shop", "web-6d4cf56db6-x2x9k"]["net_rx_bps"] is None


async def test_a_pod_on_the_hosts_network_does_not_show_the_nodes_traffic(kubernetes, collector):
    kubernetes.pods[0]["spec"]["hostNetwork"] = True
    await collector.collect(NOW)
    kubernetes.summaries["n1"] = summary("n1", kubernetes.pods, at=NOW + 15, rx=2 * 10**9)
    values = rows(await collector.collect(NOW + 15), "pod")
    assert values["shop", "web-6d4cf56db6-x2x9k"]["net_rx_bps"] is None


async def test_deleted_and_done_pods_vanish(kubernetes, collector):
    kubernetes.pods.append(pod("shop", "job-1", "n2", phase="Succeeded"))
    kubernetes.pods.append(pod("shop", "evicted", "n2", phase="Failed"))
    collected = await collector.collect(NOW)
    assert ("shop", "job-1") not in rows(collected, "pod")
    assert ("shop", "evicted") in rows(collected, "pod")
    assert rows(collected, "node")["", "n2"]["pods"] == 0
    del kubernetes.pods[:]
    # The kubelet still shows it for a while.
    kubernetes.summaries["n1"]["pods"] = [pod_stats(pod("shop", "x", "n1"), at=NOW, rx=1)]
    assert rows(await collector.collect(NOW + 15), "pod") == {}


async def test_without_permission_to_list_pods_the_kubelets_still_name_them(kubernetes, collector):
    kubernetes.refuse["/api/v1/pods"] = 403
    collected = await collector.collect(NOW)
    values = rows(collected, "pod")["shop", "web-6d4cf56db6-x2x9k"]
    assert (values["cpu_mc"], values["restarts"]) == (152, None)
    assert "HTTP 403: /api/v1/pods is forbidden" in collected.problems["list of pods"]


async def test_without_permission_to_list_nodes_there_is_one_clear_error(kubernetes, collector):
    kubernetes.refuse["/api/v1/nodes"] = 403
    with pytest.raises(CollectorError, match="HTTP 403: /api/v1/nodes is forbidden"):
        await collector.collect(NOW)


async def test_a_rotated_token_is_read_again(kubernetes, collector, tmp_path):
    await collector.collect(NOW)
    kubernetes.token = "second-token"
    with pytest.raises(CollectorError, match="HTTP 401"):
        await collector.collect(NOW + 15)
    (tmp_path / "token").write_text("second-token")
    assert (await collector.collect(NOW + 30)).problems == {}


async def test_an_api_server_that_refuses_for_its_load_is_asked_again_next_time(
    kubernetes, collector
):
    kubernetes.refuse["*"] = 429
    with pytest.raises(CollectorError, match="HTTP 429: too many requests"):
        await collector.collect(NOW)
    kubernetes.refuse.clear()
    assert (await collector.collect(NOW + 15)).problems == {}


async def test_a_list_that_breaks_off_is_no_shorter_list(kubernetes, collector):
    kubernetes.page_limit = 1
    kubernetes.fail_after_pages = 1
    with pytest.raises(CollectorError, match="HTTP 500: etcdserver: request timed out"):
        await collector.collect(NOW)


async def test_a_kubelet_without_numbers_is_named_as_one_that_does_not_answer(
    kubernetes, collector
):
    kubernetes.summaries["n2"] = {"node": {"nodeName": "n2"}, "pods": []}
    collected = await collector.collect(NOW)
    problem = "its kubelet gives no numbers: they are not in its answer"
    assert collected.problems == {"n2": problem}
    assert attrs(collected, "node", "n2")["problem"] == problem
    assert "problem" not in attrs(collected, "node", "n1")


async def test_a_pod_without_a_node_is_a_row_without_use(kubernetes, collector):
    kubernetes.pods = [pod("shop", "too-big", "", phase="Pending")]
    collected = await collector.collect(NOW)
    [found] = [sample for sample in collected.samples if sample.kind == "pod"]
    assert (found.node, found.attrs["status"]) == ("", "Pending")
    assert found.attrs["reason"] == "Unschedulable"
    values = rows(collected, "pod")["shop", "too-big"]
    assert {field for field, value in values.items() if value is not None} == {"restarts"}


async def test_the_pods_of_a_real_cluster_are_rows_with_what_kubectl_prints(kubernetes, collector):
    kubernetes.nodes = real_answer("nodes_list")["items"]
    kubernetes.pods = real_pods()
    kubernetes.summaries = {"node-a": real_answer("kubelet_stats_summary")}
    ended = timestamp("2026-11-29T13:53:28Z")
    collected = await collector.collect(ended + 60)
    assert collected.problems == {}
    states = {s.name: s.attrs["status"] for s in collected.samples if s.kind == "pod"}
    assert states.pop("minutely-29932673-k7gsm") == "Completed", "two minutes after its end"
    assert states["init-crash"] == "Init:CrashLoopBackOff"
    assert rows(collected, "node")["", "node-a"]["pods"] == 10
    later = await collector.collect(ended + 121)
    assert {s.name for s in later.samples if s.kind == "pod"} == states.keys()


async def test_a_redirect_is_not_followed(kubernetes, collector):
    kubernetes.redirect = "http://127.0.0.1:1/steal"
    with pytest.raises(CollectorError, match="HTTP 302"):
        await collector.collect(NOW)


async def test_hostile_names_are_cleaned(kubernetes, collector):
    kubernetes.nodes.append(node("n3\x1b[2J" + "x" * 999))
    kubernetes.pods[0]["spec"]["containers"][0]["image"] = "evil\u202e\n" + "i" * 9999
    collected = await collector.collect(NOW)
    for sample in collected.samples:
        for value in (sample.ns, sample.name, sample.node, *sample.attrs.values()):
            assert value.isprintable()
            assert len(value) <= 256
