"""One identity with two processes is flagged, whatever they say; one that moves or restarts is
not."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from clusters.models import Cluster
from clusters.tunnel.hub.duplicates import DuplicateEvidence, Sighting, find_other_between
from clusters.tunnel.hub.limits import Limits
from tests.clusters.tunnel.conftest import (
    LIMITS,
    asyncssh_agent,
    make_identity,
    running_hub,
    serving,
    stock_agent,
    until,
)
from tests.clusters.tunnel.hub.conftest import ended
from tests.faultproxy import FaultProxy

# The times of a hub in the same order: probes, then the end of the older session.
QUICK = replace(
    LIMITS,
    replaced_drain_seconds=1.6,
    suspect_keepalive_seconds=0.15,
    suspect_keepalive_count=3,
    suspect_seconds=0.6,
    sign_ins=100,  # more in a test than in a minute of an agent's life
)


@pytest.fixture
def limits():
    return QUICK


def says(*, process: str = "", instance: str = "aaaa") -> str:
    """Return the version string of an agent."""
    number = f" process={process}" if process else ""
    return f"OpsCenterAgent_0.1.0{number} instance={instance}"


async def flagged(hub, identity) -> str:
    """Return what the cluster is flagged with, once everything is written; "" if it is not."""
    await hub.recorder.flushed()
    cluster = await Cluster.objects.aget(id=identity.cluster.id)
    assert (cluster.conflict_at is None) == (cluster.conflict_detail == "")
    return cluster.conflict_detail


# --- the hub's own proof ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (says(), says()),  # agents of before, on a machine and its copy
        (says(process="11"), says(process="11")),  # a copy with its memory, or a client that lies
        (says(process="11"), says(process="22")),
        ("OpenSSH_9.2", "OpenSSH_9.2"),
    ],
)
async def test_a_replaced_session_that_still_answers_proves_a_second_process(
    hub, identity, target, first, second
):
    async with asyncssh_agent(hub, identity, target, client_version=first):
        older = await serving(hub, identity)
        async with asyncssh_agent(hub, identity, target, client_version=second):
            assert (await ended(hub, older)).end_reason == "replaced by a newer session"
            assert "a session still answered" in await flagged(hub, identity)


async def test_two_agents_on_two_machines_are_named(hub, identity, target):
    one, two = says(instance="aaaa", process="11"), says(instance="bbbb", process="22")
    async with asyncssh_agent(hub, identity, target, client_version=one):
        older = await serving(hub, identity)
        async with asyncssh_agent(hub, identity, target, client_version=two):
            await ended(hub, older)
            detail = await flagged(hub, identity)
            assert "127.0.0.1 (agent aaaa, process 11)" in detail
            assert "127.0.0.1 (agent bbbb, process 22)" in detail


async def test_two_stock_clients_with_one_key_are_flagged(hub, identity, target, tmp_path):
    async with stock_agent(hub, identity, target, tmp_path):
        older = await serving(hub, identity)
        async with stock_agent(hub, identity, target, tmp_path):
            await ended(hub, older)
            assert "a session still answered" in await flagged(hub, identity)


async def test_more_than_two_users_of_a_key_are_flagged_before_a_session_is_old(
    settings, short_directory, tmp_path, transactional_db, target
):
    """Each third sign-in ends the oldest session, so that none reaches the end of its drain."""
    limits = replace(QUICK, replaced_drain_seconds=60)
    async with running_hub(settings, short_directory, limits) as hub:
        identity = await make_identity(tmp_path, "north-1")
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(asyncssh_agent(hub, identity, target))
            for _ in range(limits.overlaps):
                assert not await flagged(hub, identity)
                await stack.enter_async_context(asyncssh_agent(hub, identity, target))
                await asyncio.sleep(limits.suspect_seconds + 0.2)
            assert "3 replaced sessions in 10 min still answered" in await flagged(hub, identity)


async def test_a_key_that_hops_between_machines_is_flagged(
    settings, short_directory, tmp_path, transactional_db, target
):
    limits = replace(LIMITS, replaced_drain_seconds=60, replacements=3)
    async with running_hub(settings, short_directory, limits) as hub:
        identity = await make_identity(tmp_path, "north-1")
        async with contextlib.AsyncExitStack() as stack:
            for number in range(5):
                version = says(instance=str(number % 2))
                await stack.enter_async_context(
                    asyncssh_agent(hub, identity, target, client_version=version)
                )
            assert "4 changes of place in 10 min" in await flagged(hub, identity)


# --- the numbers that processes say -----------------------------------------------------------


@pytest.mark.parametrize("stranger", [says(process="22"), says(), "OpenSSH_9.2"])
async def test_a_process_that_comes_back_after_another_one_is_flagged_at_once(
    hub, identity, target, stranger
):
    for version in (says(process="11"), stranger):
        async with asyncssh_agent(hub, identity, target, client_version=version):
            session = await serving(hub, identity)
        await ended(hub, session)
    assert not await flagged(hub, identity)
    async with asyncssh_agent(hub, identity, target, client_version=says(process="11")):
        await serving(hub, identity)
        assert "process 11 signed in again after another one" in await flagged(hub, identity)


async def test_a_client_with_a_new_lie_each_time_is_flagged_when_the_honest_one_is_back(
    hub, identity, target
):
    for process in ("11", "91", "92", "93", "11"):
        assert not await flagged(hub, identity)
        version = says(process=process)
        async with asyncssh_agent(hub, identity, target, client_version=version):
            session = await serving(hub, identity)
        await ended(hub, session)
    assert "process 11 signed in again" in await flagged(hub, identity)


async def test_both_are_served_in_turn_while_they_are_flagged(hub, identity, target):
    """Neither is shut out: the hub cannot know which one is honest."""
    for process in ("11", "22", "11", "22"):
        version = says(process=process)
        async with asyncssh_agent(hub, identity, target, client_version=version):
            session = await serving(hub, identity)
            assert session.process == process
        await ended(hub, session)
    assert await flagged(hub, identity)


async def test_a_number_that_is_not_one_does_no_harm(hub, identity, target):
    version = "OpsCenterAgent_0.1.0 process= instance instance== " + "process=" + "x" * 150
    async with asyncssh_agent(hub, identity, target, client_version=version):
        session = await serving(hub, identity)
        assert session.process == "x" * 40
        assert session.instance == "="


# --- what is not a clone ----------------------------------------------------------------------


async def test_an_agent_that_restarts_again_and_again_is_not_flagged(hub, identity, target):
    for number in range(8):
        version = says(process=f"{number:04}")
        async with asyncssh_agent(hub, identity, target, client_version=version):
            session = await serving(hub, identity)
        await ended(hub, session)
    assert not await flagged(hub, identity)


async def test_restarts_that_leave_half_open_connections_are_not_flagged(hub, identity, target):
    """A machine that loses its power says nothing; its old connections stay for a while."""
    async with contextlib.AsyncExitStack() as stack:
        for number in range(6):
            proxy = await stack.enter_async_context(FaultProxy("127.0.0.1", hub.port))
            version = says(process=f"{number:04}")
            await stack.enter_async_context(
                asyncssh_agent(hub, identity, target, port=proxy.port, client_version=version)
            )
            last = hub.registry.serving(identity.cluster.id)
            await asyncio.sleep(0.1)  # what was on its way has arrived
            proxy.black_hole = True
        await until(lambda: hub.registry.sessions() == [last])
        assert not await flagged(hub, identity)


async def test_an_agent_whose_address_changes_is_not_flagged(hub, identity, target):
    """Its process and what it says stay the same; its old connections lead nowhere."""
    version = says(process="11")
    addresses = set()
    async with contextlib.AsyncExitStack() as stack:
        for number in range(8):
            proxy = await stack.enter_async_context(
                FaultProxy("127.0.0.1", hub.port, from_address=f"127.0.0.{number + 2}")
            )
            await stack.enter_async_context(
                asyncssh_agent(hub, identity, target, port=proxy.port, client_version=version)
            )
            session = await serving(hub, identity)
            addresses.add(session.remote_address)
            await asyncio.sleep(0.1)
            proxy.black_hole = True
        assert len(addresses) == 8
        await until(lambda: hub.registry.sessions() == [session])
        assert not await flagged(hub, identity)


@pytest.mark.parametrize("direction", ["up", True])
async def test_a_half_open_session_is_cut_soon_and_proves_nothing(hub, identity, target, direction):
    async with (
        FaultProxy("127.0.0.1", hub.port) as proxy,
        asyncssh_agent(hub, identity, target, port=proxy.port, keepalive_interval=0.2),
    ):
        older = await serving(hub, identity)
        proxy.black_hole = direction
        await asyncio.sleep(0.3)
        moved = says(instance="bbbb")
        async with asyncssh_agent(hub, identity, target, client_version=moved):
            assert (await ended(hub, older)).end_reason == "the agent did not answer keepalives"
            assert not await flagged(hub, identity)


async def test_what_was_on_its_way_when_a_session_was_replaced_proves_nothing(
    settings, short_directory, tmp_path, transactional_db, target
):
    """A relay passes on what an agent said before it left."""
    limits = replace(QUICK, suspect_keepalive_count=100)  # the older one reaches its drain's end
    async with running_hub(settings, short_directory, limits) as hub:
        identity = await make_identity(tmp_path, "north-1")
        async with (
            FaultProxy("127.0.0.1", hub.port) as proxy,
            asyncssh_agent(hub, identity, target, port=proxy.port),
        ):
            older = await serving(hub, identity)
            async with asyncssh_agent(hub, identity, target):
                await asyncio.sleep(0.2)
                assert older.answered_since(older.replaced_at_s)
                proxy.black_hole = True
                await ended(hub, older)
                assert not await flagged(hub, identity)


# --- the rules alone --------------------------------------------------------------------------


def seen(numbers: str) -> list[Sighting]:
    """Return sightings of processes with one letter each; a dot says no number."""
    return [
        Sighting(float(place), f"10.0.0.{place}", "", "" if letter == "." else letter)
        for place, letter in enumerate(numbers)
    ]


@pytest.mark.parametrize(
    ("numbers", "other"),
    [("", None), ("A", None), ("AB", None), ("ABC", None), ("AAA", None), ("ABA", "B"),
     ("ABCA", "C"), ("A.A", ""), (".A.", None), ("...", None), ("BAA", None), ("AABBA", "B")],
)  # fmt: skip
def test_another_process_between_two_sessions_of_one_is_found(numbers, other):
    sightings = seen(numbers)
    found = find_other_between(sightings, sightings[-1]) if sightings else None
    assert (None if found is None else found.process) == other


def test_each_proof_needs_a_return_of_its_own():
    evidence = DuplicateEvidence(Limits())
    proofs = [bool(evidence.served("north", one)) for one in seen("ABAAABA")]
    assert proofs == [False, False, True, False, False, False, True]


def test_a_session_that_was_overtaken_while_it_signed_in_is_no_return():
    first, second, third = seen("AAB")
    evidence = DuplicateEvidence(Limits())
    assert [evidence.served("north", one) for one in (first, third, second)] == ["", "", ""]


def test_a_long_session_is_remembered():
    """The first process may have served for months before its copy was started."""
    evidence = DuplicateEvidence(Limits())
    first, second, third = seen("ABA")
    evidence.served("north", replace(first, at_s=-1e7))
    evidence.served("north", second)
    assert evidence.served("north", third)


def test_what_is_remembered_of_a_cluster_is_bounded():
    evidence = DuplicateEvidence(Limits())
    for number in range(1000):
        evidence.served("north", Sighting(number, "10.0.0.1", "", str(number)))
    assert len(evidence._served["north"]) == 100


def test_a_copy_of_a_machine_is_called_one():
    first, second = (Sighting(0, "10.0.0.5", "aaaa", number) for number in "12")
    proof = DuplicateEvidence(Limits()).outlived(60, first, second)
    assert "both have one machine id and path, as copies of a machine have" in proof
    assert len(proof) < 500
