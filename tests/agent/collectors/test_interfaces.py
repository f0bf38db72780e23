"""What counts as a machine's traffic, by what the kernel says of its interfaces."""

import pytest

from tests.agent.machine import node


async def received(machine, **per_second: int) -> int | None:
    """Return the node's rate after interfaces received so many bytes a second for 10 s."""
    collector = machine.collector()
    machine.net(**dict.fromkeys(per_second, (1000, 0)))
    await node(collector)
    machine.now += 10
    machine.net(**{name: (1000 + 10 * rate, 0) for name, rate in per_second.items()})
    return (await node(collector))["net_rx_bps"]


async def test_a_bond_and_a_bridge_of_any_name_are_told_by_what_they_lie_on(machine):
    machine.link("ens1", master="uplink")
    machine.link("ens2", master="uplink")
    machine.link("uplink", device=False, master="lan", lower=("ens1", "ens2"))
    machine.link("lan", device=False, lower=("uplink", "web"))
    machine.link("web", device=False, master="lan")
    rate = await received(machine, ens1=100, ens2=50, uplink=150, lan=150, web=140)
    assert rate == 150


async def test_ports_of_a_switch_count_at_the_card_behind_it(machine):
    machine.link("eth0", lower=())
    machine.link("lan1", lower=("eth0",))
    machine.link("lan2", lower=("eth0",))
    assert await received(machine, eth0=100, lan1=60, lan2=40) == 100


async def test_a_card_whose_traffic_another_one_counts_too_is_left_out(machine):
    machine.link("ens4", address="02:00:00:00:00:01", lower=("ens4nsby", "ens5"))
    machine.link("ens4nsby", address="02:00:00:00:00:01", master="ens4")
    machine.link("ens5", address="02:00:00:00:00:01", master="ens4")
    assert await received(machine, ens4=100, ens4nsby=30, ens5=70) == 100


@pytest.mark.parametrize(("address", "rate"), [("02:00:00:00:00:01", 100), ("02:ff", 170)])
async def test_a_second_face_is_told_from_a_second_card_by_its_address(machine, address, rate):
    machine.link("eth0", address="02:00:00:00:00:01")
    machine.link("enP35596s1", address=address)
    assert await received(machine, eth0=100, enP35596s1=70) == rate


async def test_in_a_container_the_end_of_its_pair_counts(machine):
    machine.link("eth0", device=False)
    assert await received(machine, eth0=100, lo=1000) == 100


async def test_without_sysfs_bonds_and_vlans_are_those_that_the_kernel_lists(machine):
    machine.write("net/bonding/uplink", "Bonding Mode: x\n\nSlave Interface: ens1\n")
    machine.write("net/bonding/empty", "Bonding Mode: x\n")
    machine.write(
        "net/vlan/config", "VLAN Dev name | VLAN ID\nName-Type: X\nstorage | 7 | uplink\n"
    )
    assert await received(machine, ens1=100, uplink=100, storage=90) == 100
