"""Pages that mix apps: fleet, cluster, node, pod, and the health endpoints."""
