"""``manage.py erase_customer --customer ID --confirm NAME``: erase everything of a customer."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand

from clusters.legal_holds import LegalHoldError
from clusters.models import Customer
from metrics.deletion import erasure
from metrics.models import Erasure
from metrics.stores import StoreError
from opscenter.core import leases
from opscenter.core.errors import InvalidInputError


class Command(BaseCommand):
    """Erase in this process, printing the progress; may be stopped and run again."""

    help = (
        "Erases all numbers, the gap ledger, the clusters and the customer itself, for good."
        " Refused under a legal hold. May be stopped and run again. docs/retention.md says more."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--customer", required=True, help="id or name of the customer")
        parser.add_argument("--confirm", default="", help="the customer's name, exactly")

    def handle(self, *args: Any, **options: Any) -> None:
        """Erase. Exit code 0: all is gone; 1: not all, run it again; 2: refused."""
        try:
            open_one = self._open(options["customer"], options["confirm"])
        except (InvalidInputError, LegalHoldError) as exc:
            print(f"manage.py erase_customer: {exc}", file=sys.stderr)
            sys.exit(2)
        try:
            done = erasure.run(open_one.pk, report=self._report)
        except (erasure.ErasureBusyError, StoreError, leases.LeaseTimeoutError) as exc:
            print(f"manage.py erase_customer: {exc}; run it again", file=sys.stderr)
            sys.exit(1)
        if done.state != Erasure.State.DONE:
            print(f"manage.py erase_customer: {done.problem}", file=sys.stderr)
            sys.exit(2)
        self.stdout.write(f"{done.customer_name} is erased: {done.done} clusters")

    def _open(self, wanted: str, confirm: str) -> Erasure:
        """Return the customer's erasure: the one that was begun, or a new one.

        Raises:
            InvalidInputError: there is no such customer, or the name is not confirmed.
            LegalHoldError: there is a legal hold.
        """
        begun = Erasure.objects.exclude(state=Erasure.State.DONE)
        try:
            pk = UUID(wanted)
        except ValueError:
            customer = Customer.objects.filter(name=wanted).first()
            unfinished = begun.filter(customer_name=wanted).first()
        else:
            customer = Customer.objects.filter(pk=pk).first()
            unfinished = begun.filter(customer_id=pk).first()
        if unfinished is not None:
            self.stdout.write(f"continuing {unfinished}, requested by {unfinished.requested_by}")
            return unfinished
        if customer is None:
            raise InvalidInputError(f"there is no customer {wanted}")
        if confirm != customer.name:
            clusters = customer.clusters.count()
            how = f"--confirm '{customer.name}'"
            msg = f"this erases {clusters} clusters for good; confirm it by {how}"
            raise InvalidInputError(msg)
        return erasure.begin(customer, confirm=confirm, actor="manage.py")

    def _report(self, row: Erasure) -> None:
        self.stdout.write(f"  {row.done} of {row.total} clusters")
        self.stdout.flush()
