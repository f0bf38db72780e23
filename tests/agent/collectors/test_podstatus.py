"""Each pod says what ``kubectl get pods`` printed of it at the same moment."""

import pytest

from agent.collectors.podstatus import pod_status
from tests.agent.kubernetes import deleted, initializing, pod, real_pods, terminated

AT = 1_800_000_000.0

KUBECTL = {
    "evicted": ("Error", "0/1", 0),
    "fails-hj2w8": ("Error", "0/1", 0),
    "minutely-29932673-k7gsm": ("Completed", "0/1", 0),
    "crash-5c66d4fcfd-q9k9h": ("CrashLoopBackOff", "0/1", 8),
    "hog-5957b767c8-fff9m": ("CrashLoopBackOff", "0/1", 9),
    "too-big": ("Pending", "0/1", 0),
    "no-image": ("ImagePullBackOff", "0/1", 0),
    "no-config": ("CreateContainerConfigError", "0/1", 0),
    "init-crash": ("Init:CrashLoopBackOff", "0/1", 9),
    "sidecar": ("Init:CrashLoopBackOff", "1/2", 7),
    "not-ready": ("Running", "0/1", 0),
    "web-55459dc6d4-99zd9": ("Running", "2/2", 0),
    "stat-node-a": ("Running", "1/1", 5),
    "db-0": ("Running", "1/1", 0),
}
LAST_TERMINATIONS = {
    "evicted": "Error, exit code 137",
    "fails-hj2w8": "Error, exit code 7",
    "minutely-29932673-k7gsm": "Completed, exit code 0",
    "crash-5c66d4fcfd-q9k9h": "Error, exit code 3",
    "hog-5957b767c8-fff9m": "OOMKilled, exit code 137",
    "init-crash": "Error, exit code 5",
    "sidecar": "Error, exit code 4",
    "stat-node-a": "StartError, exit code 128",
}
SAMPLES = {item["metadata"]["name"]: item for item in real_pods()}


def test_every_pod_of_a_real_cluster_is_looked_at():
    assert SAMPLES.keys() == KUBECTL.keys()


@pytest.mark.parametrize("name", KUBECTL)
def test_a_real_pod_says_what_kubectl_prints(name):
    state = pod_status(SAMPLES[name])
    assert (state.status, state.ready, state.restarts) == KUBECTL[name]


@pytest.mark.parametrize("name", KUBECTL)
def test_a_real_pod_says_how_a_container_last_ended(name):
    assert pod_status(SAMPLES[name]).last_termination == LAST_TERMINATIONS.get(name, "")


def test_the_reason_and_its_message_are_those_of_who_says_why():
    too_big, no_config = pod_status(SAMPLES["too-big"]), pod_status(SAMPLES["no-config"])
    assert too_big.reason == "Unschedulable"
    assert too_big.message.startswith("0/1 nodes are available: 1 Insufficient cpu.")
    assert (no_config.reason, no_config.message) == (
        "CreateContainerConfigError",
        'secret "missing" not found',
    )
    evicted, init = pod_status(SAMPLES["evicted"]), pod_status(SAMPLES["init-crash"])
    assert (evicted.reason, evicted.message) == (
        "Evicted",
        'Usage of EmptyDir volume "e" exceeds the limit "2Mi". ',
    )
    assert (init.reason, init.message) == ("CrashLoopBackOff", "")


def test_the_time_of_the_last_termination_goes_with_it():
    assert pod_status(SAMPLES["hog-5957b767c8-fff9m"]).last_terminated_at == "2026-11-29T13:56:39Z"


def test_a_pod_that_is_being_deleted_is_terminating_unless_it_has_ended():
    assert pod_status(deleted(pod("a", "b", "n"), AT)).status == "Terminating"
    ended = deleted(pod("a", "b", "n", phase="Failed"), AT)
    assert pod_status(ended).status == "CrashLoopBackOff"
    lost = deleted(pod("a", "b", "n"), AT)
    lost["status"]["reason"] = "NodeLost"
    assert pod_status(lost).status == "Unknown"


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ({"running": {}}, "Init:0/1"),
        ({"waiting": {"reason": "PodInitializing"}}, "Init:0/1"),
        ({}, "Init:0/1"),
        ({"waiting": {"reason": "ImagePullBackOff"}}, "Init:ImagePullBackOff"),
        (terminated(2, "Error", AT), "Init:Error"),
        ({"terminated": {"exitCode": 2}}, "Init:ExitCode:2"),
        ({"terminated": {"exitCode": 137, "signal": 9}}, "Init:Signal:9"),
        (terminated(0, "Completed", AT), "PodInitializing"),
    ],
)
def test_a_pod_that_starts_says_how_far_its_init_containers_are(state, status):
    assert pod_status(initializing(pod("a", "b", "n"), state)).status == status


def test_restarts_of_init_containers_count_only_while_the_pod_starts():
    item = initializing(pod("a", "b", "n"), {"running": {}}, restarts=4)
    assert pod_status(item).restarts == 4
    item["status"]["initContainerStatuses"][0]["state"] = terminated(0, "Completed", AT)
    assert pod_status(item).restarts == 0


def test_restarts_of_init_containers_that_wait_for_one_before_do_not_count():
    """As after a reboot, when all of them run once more."""
    item = initializing(pod("a", "b", "n"), {"running": {}}, restarts=2)
    item["spec"]["initContainers"].append({"name": "second"})
    waiting = {"waiting": {"reason": "PodInitializing"}}
    item["status"]["initContainerStatuses"].append(
        {"name": "second", "ready": False, "restartCount": 4, "state": waiting}
    )
    assert (pod_status(item).status, pod_status(item).restarts) == ("Init:0/2", 2)


def test_a_sidecar_that_runs_counts_among_the_ready():
    item = initializing(pod("a", "b", "n"), {"running": {}}, restarts=4, sidecar=True)
    item["status"]["initContainerStatuses"][0] |= {"started": True, "ready": True}
    state = pod_status(item)
    assert (state.status, state.ready, state.restarts) == ("PodInitializing", "1/3", 4)


def containers(*states, ready=True):
    """Return a pod whose containers are in these states; those that run are ready."""
    item = pod("a", "b", "n")
    item["status"] |= {
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "containerStatuses": [
            {"name": str(at), "ready": "running" in state, "restartCount": 0, "state": state}
            for at, state in enumerate(states)
        ],
    }
    return item


def test_one_container_that_is_done_does_not_make_the_pod_completed():
    done = terminated(0, "Completed", AT)
    assert pod_status(containers(done, {"running": {}})).status == "Running"
    assert pod_status(containers(done, {"running": {}}, ready=False)).status == "NotReady"
    assert pod_status(containers(done)).status == "Completed"


def test_a_container_that_failed_is_not_hidden_by_one_that_is_done():
    done, failed = terminated(0, "Completed", AT), terminated(1, "Error", AT - 60)
    state = pod_status(containers(done, failed, ready=False))
    assert (state.status, state.last_termination) == ("Error", "Error, exit code 1")


def test_a_pod_that_may_not_be_scheduled_yet_says_so():
    item = pod("a", "b", "")
    item["status"]["phase"] = "Pending"
    assert pod_status(item).status == "Pending"
    item["status"]["conditions"][0]["reason"] = "SchedulingGated"
    assert pod_status(item).status == "SchedulingGated"


def test_a_time_that_was_never_set_is_no_time_of_a_termination():
    item = containers({"terminated": {"exitCode": 1, "finishedAt": "0001-01-01T00:00:00Z"}})
    state = pod_status(item)
    assert (state.last_termination, state.last_terminated_at) == ("exit code 1", "")
