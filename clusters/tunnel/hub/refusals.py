"""Why the hub refuses something or tells of it: the only words that its log limits know.

What a peer says never is a key: each of its words would be new, and the log without a limit.
"""

from __future__ import annotations

from opscenter.core.log_limits import LogWord


class Refusal(LogWord):
    """A reason in words; also what a refused peer is told."""

    NO_CLUSTER_ID = "the user name is not a cluster's id"
    NOT_REGISTERED = "the key is not registered"
    OTHER_CLUSTER = "the key belongs to another cluster"
    CLUSTER_REVOKED = "the cluster is revoked"
    KEY_RETIRED = "the key is retired"
    KEY_REVOKED = "the key is revoked"
    TOO_MANY_KEYS = "too many keys on one connection"
    TOO_MANY_SIGN_INS = "too many sign-ins of the cluster in a minute; try again in a minute"
    NO_DATABASE = "the hub's database is away"
    HOST_KEY = "the client refused our host key"
    FORWARD = "a forward that is not allowed"


class Event(LogWord):
    """What a cluster can cause as often as it likes."""

    TUNNEL = "a tunnel that came or went"
    LOOK_UP = "a cluster that could not be looked up"
    CONFLICT = "an identity that two processes use"
