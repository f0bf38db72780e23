"""The agent's own tunnel to a target, without collectors: ``python -m tests.bench.agent_end``.

Reads the data directory, the cluster's id, the hub's address and host key, and the target's port
from its arguments.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agent.state import Enrolment, ensure_key
from agent.tunnel.client import Tunnel
from agent.tunnel.dial import TunnelOptions
from agent.tunnel.targets import AllowList, TcpTarget


def main() -> None:
    """Keep the tunnel up until killed."""
    directory, cluster_id, address, host_key, port = sys.argv[1:]
    enrolment = Enrolment(cluster_id, "bench", (address,), (), (host_key,), 15, "", "")
    services = AllowList().with_agent(TcpTarget("127.0.0.1", int(port)))
    options = TunnelOptions(first_connect_seconds=0, exit_after_seconds=0)
    asyncio.run(Tunnel(enrolment, ensure_key(Path(directory)), services, options).run())


if __name__ == "__main__":
    main()
