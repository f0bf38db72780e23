"""``manage.py verify_audit``: check the hash chain of the audit log."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from clusters.audit import verify


class Command(BaseCommand):
    """Check every line; exit code 1 and the first broken line's id if the chain is broken."""

    help = "Check the hash chain of the audit log; prints the number of lines and the newest hash."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print ``N lines, newest <hash>``.

        Raises:
            CommandError: if a line was changed, inserted or removed.
        """
        result = verify()
        if result.broken_at is not None:
            msg = (
                f"line {result.broken_at} breaks the chain: {result.problem}; "
                f"{result.lines} lines before it are in order"
            )
            raise CommandError(msg)
        self.stdout.write(f"{result.lines} lines, newest {result.newest_digest or '(none)'}")
