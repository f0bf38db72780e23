"""What can be made to go wrong in the simulated fleet, cluster by cluster, while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Garbage = Literal["", "html", "nan", "truncated", "endless", "bomb", "oversized", "future"]


@dataclass
class Faults:
    """The knobs of one simulated cluster; all off by default. Change them at any time."""

    tunnel_down: bool = False  # drop the tunnel and stay away
    slow_seconds: float = 0.0  # wait before each answer
    garbage: Garbage = ""  # answer with this instead of data
    clock_skew_seconds: float = 0.0  # the cluster's clock runs ahead by this much
    nodes_gone: set[str] = field(default_factory=set)  # report them as not ready, without values
    silent_minutes: set[int] = field(default_factory=set)  # the agent was not running in these
    drop_every_seconds: float = 0.0  # cut the tunnel this often, by chance
