"""The audit log: chained, checked, one writer at a time."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.management import CommandError, call_command
from django.db import connection

from clusters import audit
from clusters.models import AuditEvent

pytestmark = pytest.mark.django_db


def write(count: int) -> list[AuditEvent]:
    return [
        audit.record("thing.do", actor="system", cluster_id=uuid4(), detail={"n": n, "ü": None})
        for n in range(count)
    ]


def test_each_line_holds_the_hash_of_the_one_before():
    first, second, third = write(3)
    assert (first.previous, second.previous, third.previous) == ("", first.digest, second.digest)
    assert audit.verify() == audit.Verification(3, third.digest, None, "")


def test_an_empty_log_is_in_order(capsys):
    call_command("verify_audit")
    assert capsys.readouterr().out == "0 lines, newest (none)\n"


@pytest.mark.parametrize(
    "column",
    [{"actor": "mallory"}, {"ok": False}, {"detail": {}}, {"action": "x"}, {"cluster_id": None}],
)
def test_a_changed_line_is_found(column):
    lines = write(3)
    AuditEvent.objects.filter(pk=lines[1].pk).update(**column)
    assert audit.verify().broken_at == lines[1].pk
    with pytest.raises(CommandError, match=f"line {lines[1].pk} breaks the chain"):
        call_command("verify_audit")


def test_a_removed_line_is_found_at_the_next():
    lines = write(3)
    AuditEvent.objects.filter(pk=lines[1].pk).delete()
    assert audit.verify().broken_at == lines[2].pk


def test_a_rehashed_line_breaks_the_next():
    lines = write(2)
    lines[0].actor = "mallory"
    AuditEvent.objects.filter(pk=lines[0].pk).update(actor="mallory", digest=audit.digest(lines[0]))
    assert audit.verify().broken_at == lines[1].pk


def test_a_line_is_neither_saved_again_nor_deleted():
    (line,) = write(1)
    with pytest.raises(TypeError, match="append-only"):
        line.save()
    with pytest.raises(TypeError, match="append-only"):
        line.delete()


def test_nobody_is_called_anonymous():
    assert audit.actor_name(AnonymousUser()) == "anonymous"
    assert audit.actor_name(None) == "system"


@pytest.mark.django_db(transaction=True)
def test_writers_at_the_same_time_make_one_chain():
    failures: list[BaseException] = []

    def work() -> None:
        try:
            write(5)
        except BaseException as exc:  # noqa: BLE001 - handed to the test's thread
            failures.append(exc)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert audit.verify().lines == 20
    assert audit.verify().broken_at is None
