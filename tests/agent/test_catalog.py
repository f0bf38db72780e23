"""The agent ships without the server: what must be the same in both is compared here."""

from agent.catalog import FIELDS, KINDS
from metrics.series.catalog import FIELD_NAMES

# What only other sources measure. New fields come last, so that positions stay.
SERVER_ONLY = {"node": ("etcd_leader_changes",)}


def test_agent_and_server_agree_on_kinds_and_fields():
    assert set(FIELD_NAMES) == {*KINDS, "cluster"}
    for kind in KINDS:
        assert (*FIELDS[kind], *SERVER_ONLY.get(kind, ())) == FIELD_NAMES[kind]
