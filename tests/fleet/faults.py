"""What can be made to go wrong in the simulated fleet, cluster by cluster, while it runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

Garbage = Literal[
    "", "html", "nan", "truncated", "endless", "flood", "bomb", "oversized", "future", "long_name"
]


@dataclass
class Faults:
    """The knobs of one simulated cluster; all off by default. Change them at any time."""

    tunnel_down: bool = False  # drop the tunnel and stay away
    slow_seconds: float = 0.0  # wait before each answer
    garbage: Garbage = ""  # answer with this instead of data
    clock_skew_seconds: float = 0.0  # the cluster's clock runs ahead by this much
    nodes_gone: set[str] = field(default_factory=set)  # report them as not ready, without values
    silent_minutes: set[int] = field(default_factory=set)  # the agent was not running in these
    blind_minutes: set[int] = field(default_factory=set)  # it ran in these and saw nothing
    drop_every_seconds: float = 0.0  # cut the tunnel this often, by chance
    hostile_names: bool = False  # node, pod and namespace names, attributes and version attack

    def set(self, values: dict[str, object]) -> None:
        """Set every knob: those not given are off.

        Raises:
            KeyError: for a knob that does not exist.
        """
        knobs = {knob.name for knob in fields(self)}
        for name in values:
            if name not in knobs:
                raise KeyError(name)
        fresh = Faults(**values)  # type: ignore[arg-type]
        fresh.nodes_gone, fresh.silent_minutes = set(fresh.nodes_gone), set(fresh.silent_minutes)
        fresh.blind_minutes = set(fresh.blind_minutes)
        for name in knobs:
            setattr(self, name, getattr(fresh, name))


def read_faults(path: Path) -> dict[int, dict[str, object]]:
    """Return the faults in a file: JSON, by the cluster's index, the knobs that are not off."""
    return {int(index): values for index, values in json.loads(path.read_text()).items()}
