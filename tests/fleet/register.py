"""Register simulated clusters in the centre's database, each with a key of its own.

They are marked as simulated, and every page says so. Registering again finds the same clusters and
gives them new keys.
"""

from __future__ import annotations

import random

import asyncssh
from django.conf import settings

from clusters.enrolment.services import register_key
from clusters.models import Cluster, Customer
from clusters.services import create_cluster
from clusters.tunnel.host_key import host_key_line
from tests.fleet.simulator import Hub, Identity

ACTOR = "fleet simulator"
_CITIES = (
    *("ams", "blr", "chi", "dal", "fra", "lon", "mad", "nyc", "osl", "par"),
    *("sao", "sin", "sjc", "sto", "syd", "tor", "tyo", "vie", "waw", "zrh"),
)
_KINDS = ("core", "prod", "pay", "dr", "edge", "lab")
_CUSTOMERS = (
    *("Meridian Bank", "Nordlys Energi", "Pacific Mutual", "Hartwell Care", "Orchard Labs"),
    *("Lakeside Rail", "Tern Logistics", "Alder Insurance", "Quarry Foods", "Beacon Trust"),
)


def register(count: int, *, seed: int = 7) -> list[Identity]:
    """Create ``count`` simulated clusters, or take those of the same seed; return their keys."""
    rng = random.Random(seed)
    identities = []
    for index in range(count):
        city, kind = rng.choice(_CITIES), rng.choice(_KINDS)
        customer = rng.choice(_CUSTOMERS)
        name = f"{city}-{kind}-{index + 1}"
        cluster = Cluster.objects.filter(name=name, simulated=True).first()
        if cluster is None:
            owner, _ = Customer.objects.get_or_create(name=f"{customer} (simulated)")
            labels = {"region": city, "tier": kind, "simulated": "yes"}
            cluster = create_cluster(
                name=name, labels=labels, customer=owner, actor=ACTOR, simulated=True
            )
        key = asyncssh.generate_private_key("ssh-ed25519")
        register_key(cluster, key.export_public_key().decode(), actor=ACTOR)
        identities.append(Identity(str(cluster.pk), name, key))
    return identities


def local_hub() -> Hub:
    """Return the hub of this installation, as settings describe it."""
    return Hub(
        addresses=(f"{settings.HUB_HOST}:{settings.HUB_PORT}",), host_keys=(host_key_line(),)
    )
