"""``manage.py reseal``: seal everything with the newest secret key, so that former ones may go."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from clusters import audit
from opscenter.processes.secret_keys import forget_former_keys, reseal_everything


class Command(BaseCommand):
    """Exit with 0 once nothing needs a former key, with 1 while something cannot be read."""

    help = (
        "Seals the secrets of sources and second factors with OPSCENTER_SECRET_KEY. Afterwards"
        " OPSCENTER_SECRET_KEY_FALLBACKS may be emptied. May be stopped and run again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the option."""
        parser.add_argument(
            "--without-former-key",
            action="store_true",
            help="start without the former key although something cannot be read: it is lost",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Seal, and print what was done and what cannot be read."""
        anew, kept, lost = 0, 0, []
        for what, done in reseal_everything():
            anew, kept = anew + (done is True), kept + (done is False)
            if done is None:
                lost.append(what)
        for what in lost:
            self.stdout.write(f"cannot be read: {what}")
        self.stdout.write(
            f"{anew} sealed with the newest key, {kept} were already, {len(lost)} cannot be read"
        )
        goes_on = not lost or options["without_former_key"]
        if goes_on:
            forget_former_keys()
        detail = {"sealed": anew, "kept": kept, "lost": len(lost), "former_keys_go": goes_on}
        audit.record("secret_key.reseal", actor="manage.py", ok=not lost, detail=detail)
        if not goes_on:
            self.stdout.write(
                "add the key that they were sealed with to OPSCENTER_SECRET_KEY_FALLBACKS and run"
                " this again; if it is lost, --without-former-key lets the centre start without"
                " them: then the secrets of sources are entered again, and second factors removed"
                " (`manage.py remove_second_factor USER`) and set up again"
            )
            sys.exit(1)
        self.stdout.write(_what_next(len(lost)))


def _what_next(lost: int) -> str:
    """Return what to do with the former keys now that the centre starts without them."""
    if not lost:
        return "OPSCENTER_SECRET_KEY_FALLBACKS may be emptied now, everywhere"
    return (
        f"the centre starts without the {lost} that cannot be read: enter the secrets of sources"
        " again, and remove second factors (`manage.py remove_second_factor USER`) to be set up"
        " again. All else needs no key of OPSCENTER_SECRET_KEY_FALLBACKS any more; keep those that"
        " may still open what was lost elsewhere, such as in a backup"
    )
