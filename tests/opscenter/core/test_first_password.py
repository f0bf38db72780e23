"""The file of the first password is there as long as that password, by whatever way it changes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from opscenter.core.first_password import forget_outdated_password
from opscenter.processes.first_start import _ensure_admin, greeting
from tests.centre import ROOT, clean_environment

FIRST, OTHER = "first-password-1", "another-password-2"


@pytest.fixture
def file(settings, tmp_path) -> Path:
    """The file that the first start makes, and its admin."""
    settings.DATA_DIR = tmp_path
    assert _ensure_admin()
    path = tmp_path / "admin_password"
    path.write_text(f"{FIRST}\n")
    admin = User.objects.get()
    admin.set_password(FIRST)
    admin.save()
    assert path.exists()
    return path


def by_the_account_page(client: Client) -> None:
    client.force_login(User.objects.get(), backend="django.contrib.auth.backends.ModelBackend")
    sent = {"oldpassword": FIRST, "password1": OTHER, "password2": OTHER}
    assert client.post("/accounts/password/change/", sent).status_code == 302


def by_the_admin(client: Client) -> None:
    admin = User.objects.get()
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    sent = {"password1": OTHER, "password2": OTHER, "usable_password": "true"}
    assert client.post(f"/admin/auth/user/{admin.pk}/password/", sent).status_code == 302


def by_a_program(client: Client) -> None:
    del client
    admin = User.objects.get()
    admin.set_password(OTHER)
    admin.save()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", [by_the_account_page, by_the_admin, by_a_program])
def test_the_file_goes_with_its_password(change, file, client):
    change(client)
    assert User.objects.get().check_password(OTHER)
    assert not file.exists()


@pytest.mark.django_db(transaction=True)
def test_a_change_that_is_undone_leaves_the_file(file):
    with transaction.atomic():
        by_a_program(Client())
        transaction.set_rollback(True)
    assert User.objects.get().check_password(FIRST)
    assert file.exists()


@pytest.mark.django_db(transaction=True)
def test_the_password_of_somebody_else_leaves_the_file(file):
    User.objects.create_user("somebody", password=OTHER)
    assert file.exists()


@pytest.mark.django_db
def test_a_start_deletes_the_file_of_a_password_that_was_changed_before(file):
    forget_outdated_password()
    assert file.exists()
    file.write_text("long-since-changed\n")
    forget_outdated_password()
    assert not file.exists()


@pytest.mark.django_db
def test_a_start_makes_the_file_once(file):
    assert _ensure_admin() is None
    assert file.read_text() == f"{FIRST}\n"


def test_what_is_not_a_terminal_gets_the_files_name_alone():
    assert FIRST not in " ".join(greeting(FIRST, to_terminal=False))
    assert FIRST in " ".join(greeting(FIRST, to_terminal=True))


@pytest.mark.usefixtures("starts_servers")
def test_prepare_shows_the_password_to_a_terminal_and_to_nothing_else(tmp_path):
    for name in ("terminal", "pipe"):
        environment = clean_environment(OPSCENTER_DATA_DIR=str(tmp_path / name))
        command = [sys.executable, str(ROOT / "manage.py"), "prepare"]
        if name == "terminal":
            ours, theirs = pty.openpty()
            with subprocess.Popen(
                command, env=environment, stdout=theirs, stderr=theirs
            ) as process:
                os.close(theirs)
                assert process.wait(120) == 0
            output = os.read(ours, 65536).decode()
            os.close(ours)
        else:
            done = subprocess.run(
                command, env=environment, capture_output=True, check=False, timeout=120
            )
            output = (done.stdout + done.stderr).decode()
        password = (tmp_path / name / "admin_password").read_text().strip()
        assert (password in output) == (name == "terminal")
        assert str(tmp_path / name / "admin_password") in output


@pytest.mark.django_db(transaction=True)
def test_changepassword_deletes_the_file(file, monkeypatch):
    monkeypatch.setattr("getpass.getpass", lambda *_, **__: OTHER)
    call_command("changepassword", "admin", verbosity=0)
    assert not file.exists()
