"""The agent that `manage.py up` runs beside the centre: this machine as a cluster of its own.

It enrols as any other agent does, through a join token and the hub; the only difference is that
nobody has to type the command.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from uuid import UUID

from django.conf import settings

from clusters import services
from clusters.enrolment import services as enrolment
from clusters.models import Cluster
from clusters.tunnel.host_key import host_key_fingerprint
from opscenter.processes.child import Command
from opscenter.processes.preflight import reachable_host

NAME = "this-machine"
_ACTOR = "manage.py up"  # as the audit log names it
logger = logging.getLogger(__name__)
_tokens: dict[UUID, str] = {}  # in the supervisor's memory only; one entry


def agent_directory() -> Path:
    """Return the local agent's data directory."""
    return Path(settings.DATA_DIR) / "agent"


def agent_command() -> Command | None:
    """Return how to start the local agent; None if an operator has revoked its cluster.

    An enrolment whose cluster is gone is dropped, and the agent enrols again under the name
    ``this-machine``. Called before every start of the agent; costs two queries.

    Raises:
        django.db.DatabaseError: if the database cannot be used.
        OSError: if the old enrolment cannot be removed.
    """
    enrolled = _enrolled_cluster()
    cluster = enrolled or Cluster.objects.filter(name=NAME).first()
    if cluster is not None and cluster.status == Cluster.Status.REVOKED:
        logger.warning("the cluster %s is revoked: the local agent is not started", cluster.name)
        return None
    environment = {
        "OPSCENTER_AGENT_DATA_DIR": str(agent_directory()),
        # Spreading the first connects of a fleet makes no sense for one agent beside its hub.
        "OPSCENTER_AGENT_FIRST_CONNECT_SECONDS": "0",
    }
    if enrolled is None:
        environment |= _enrolment(cluster)
    return Command((sys.executable, "-m", "agent", "run"), environment)


def _enrolment(cluster: Cluster | None) -> dict[str, str]:
    """Return the variables that let the agent enrol; creates the cluster if it is missing."""
    (agent_directory() / "enrolment.json").unlink(missing_ok=True)
    if cluster is None:
        cluster = services.create_cluster(name=NAME, actor=_ACTOR)
    return {
        "OPSCENTER_AGENT_URL": _web_url(),
        "OPSCENTER_AGENT_TOKEN": _token(cluster),
        "OPSCENTER_AGENT_HUB_KEY": host_key_fingerprint(),
    }


def _token(cluster: Cluster) -> str:
    """Return the join token of this run of the supervisor; issue one if there is no valid one.

    An agent that dies again and again before it has enrolled gets the same one each time. One that
    died after the token was used is answered again, as it has the same key.
    """
    token = _tokens.get(cluster.pk)
    if token is None or not enrolment.accepts_join_token(cluster, token):
        _tokens.clear()
        token = _tokens[cluster.pk] = enrolment.issue_join_token(cluster, actor=_ACTOR)
    return token


def _web_url() -> str:
    """Return the web process's own address: the public one may go through a proxy."""
    host = reachable_host(settings.WEB_HOST)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.WEB_PORT}"


def _enrolled_cluster() -> Cluster | None:
    """Return the cluster of the stored enrolment; None if there is none or its cluster is gone."""
    path = agent_directory() / "enrolment.json"
    try:
        cluster_id = UUID(str(json.loads(path.read_text(encoding="utf-8"))["cluster_id"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as exc:
        logger.warning("%s cannot be read (%r): the local agent enrols again", path, exc)
        return None
    cluster = Cluster.objects.filter(pk=cluster_id).first()
    if cluster is None:
        logger.warning("the cluster %s is gone: the local agent enrols again", cluster_id)
    return cluster
