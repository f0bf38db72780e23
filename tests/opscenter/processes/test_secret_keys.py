"""Another secret key is refused at the start; ``reseal`` makes a former one needless."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command

from clusters.models import AuditEvent
from metrics.connections.config import read_config, save_source, secrets_of
from metrics.models import MetricSource
from opscenter.core.encryption import SealBrokenError, key_name
from opscenter.core.env import check_secret_key
from opscenter.models import Installation
from opscenter.processes.secret_keys import check_secret_keys, reseal_everything
from tests.centre import ROOT
from tests.clusters.accounts.test_account_pages import (
    ENCRYPTED_BEFORE_SEALING,
    LOGIN,
    OLD_KEY,
    SECRET,
    code_of,
)
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
NEW, OLD, THIRD = "new key " * 5, "old key " * 5, "third key " * 5


@pytest.fixture
def keys(settings):
    """Set the newest key, then former ones."""

    def use(newest: str, *former: str) -> None:
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = newest, list(former)

    use(OLD)
    return use


@pytest.fixture
def sealed(keys, operator, cluster) -> None:
    """A second factor of each kind, and a source with a password, under the old key."""
    check_secret_keys()
    TOTP.activate(operator, SECRET)
    RecoveryCodes.activate(operator)
    config = read_config(
        kind="prometheus", service="prometheus", scheme="http", settings={"username": "ops"},
        secrets={"password": "hunter2"},
    )  # fmt: skip
    save_source(cluster, config, actor="test")


def reseal(*options: str) -> tuple[int, str]:
    """Run the command; return its exit code and what it says."""
    out = io.StringIO()
    try:
        call_command("reseal", *options, stdout=out)
    except SystemExit as exc:
        return int(exc.code or 0), out.getvalue()
    return 0, out.getvalue()


def test_another_key_without_the_former_one_is_refused_in_one_line(keys):
    check_secret_keys()
    keys(NEW)
    for _ in range(2):
        with pytest.raises(ImproperlyConfigured, match="OPSCENTER_SECRET_KEY is another") as said:
            check_secret_keys()
    assert "\n" not in str(said.value)
    assert "reseal" in str(said.value)
    assert OLD.strip() not in str(said.value)
    keys(OLD)
    check_secret_keys()


def test_a_former_key_may_go_only_after_everything_is_sealed_anew(keys, sealed, cluster):
    keys(NEW, OLD)
    check_secret_keys()
    keys(NEW)
    with pytest.raises(ImproperlyConfigured):
        check_secret_keys()
    keys(NEW, OLD)
    assert reseal() == (
        0,
        "3 sealed with the newest key, 0 were already, 0 cannot be read\n"
        "OPSCENTER_SECRET_KEY_FALLBACKS may be emptied now, everywhere\n",
    )
    keys(NEW)
    check_secret_keys()
    assert secrets_of(MetricSource.objects.get())["password"] == "hunter2"
    factor = Authenticator.objects.get(type=Authenticator.Type.TOTP)
    assert get_adapter().decrypt(factor.data["secret"]) == SECRET
    assert AuditEvent.objects.filter(action="secret_key.reseal", ok=True).count() == 1


def test_going_back_to_the_former_key_is_refused_once_the_new_one_was_used(keys, sealed):
    keys(NEW, OLD)
    check_secret_keys()
    keys(OLD)
    with pytest.raises(ImproperlyConfigured):
        check_secret_keys()
    keys(OLD, NEW)
    check_secret_keys()
    assert Installation.objects.get().keys[-1] == key_name(OLD)


def test_to_reseal_again_changes_nothing(keys, sealed):
    keys(NEW, OLD)
    reseal()
    before = list(Authenticator.objects.values("data")), list(MetricSource.objects.values("sealed"))
    assert reseal()[1].startswith("0 sealed with the newest key, 3 were already")
    after = list(Authenticator.objects.values("data")), list(MetricSource.objects.values("sealed"))
    assert before == after


def test_one_that_was_stopped_halfway_goes_on(keys, sealed):
    keys(NEW, OLD)
    next(reseal_everything())
    keys(NEW)
    with pytest.raises(ImproperlyConfigured):
        check_secret_keys()
    keys(NEW, OLD)
    assert reseal()[1].startswith("2 sealed with the newest key, 1 were already")


def test_what_cannot_be_read_is_named_and_the_former_key_stays_needed(keys, sealed, cluster):
    keys(NEW)
    code, said = reseal()
    assert code == 1
    assert f"cannot be read: secrets of the source prometheus of the cluster {cluster.name}" in said
    assert "cannot be read: second factor of operator (" in said
    assert "3 cannot be read" in said
    with pytest.raises(ImproperlyConfigured):
        check_secret_keys()
    code, said = reseal("--without-former-key")
    assert code == 0
    assert "may be emptied" not in said
    assert "enter the secrets of sources" in said
    check_secret_keys()
    with pytest.raises(SealBrokenError):
        secrets_of(MetricSource.objects.get())


def test_factors_of_an_older_version_are_sealed_too(keys, operator):
    data = {"secret": ENCRYPTED_BEFORE_SEALING}
    Authenticator.objects.create(user=operator, type=Authenticator.Type.TOTP, data=data)
    keys(NEW, OLD_KEY)
    assert reseal()[0] == 0
    keys(NEW)
    assert get_adapter().decrypt(Authenticator.objects.get().data["secret"]) == SECRET


def test_a_sign_in_with_a_factor_of_a_lost_key_is_a_page_that_says_what_to_do(
    client, keys, sealed, caplog
):
    keys(NEW)
    client.raise_request_exception = False
    client.post(LOGIN, {"login": "operator", "password": PASSWORD})
    page = client.post("/accounts/2fa/authenticate/", {"code": code_of(SECRET)})
    assert page.status_code == 503
    assert not [record for record in caplog.records if record.exc_info]
    text = page.content.decode()
    assert "remove_second_factor" in text
    assert "OPSCENTER_SECRET_KEY_FALLBACKS" in text
    assert client.get("/").status_code == 302, "nobody is signed in by that"
    call_command("remove_second_factor", "operator", stdout=io.StringIO())
    client.post("/accounts/logout/")  # as the page's "Cancel" does
    client.post(LOGIN, {"login": "operator", "password": PASSWORD})
    assert client.get("/").status_code == 200
    assert AuditEvent.objects.filter(action="second_factor.remove", actor="manage.py").exists()


@pytest.mark.parametrize("ask", ["source/", "source/test/", "raw?kind=node&name=n&field=cpu_mc"])
def test_an_answer_that_needs_a_lost_secret_is_a_503_that_names_the_key(
    client, keys, sealed, cluster, admin, caplog, ask
):
    keys(NEW)
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    body = {"kind": "prometheus", "settings": {"username": "ops"}}
    method = {"source/": client.put, "source/test/": client.post}.get(ask, client.get)
    sent = {"data": body, "content_type": "application/json"} if "source" in ask else {}
    answer = method(f"/api/v1/clusters/{cluster.pk}/{ask}", **sent)
    assert answer.status_code == 503
    assert "OPSCENTER_SECRET_KEY_FALLBACKS" in answer.json()["error"]["message"]
    assert "Internal Server Error" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


def test_only_a_user_with_a_second_factor_can_lose_it():
    UserFactory(username="plain")
    for name in ("plain", "nobody"):
        with pytest.raises(CommandError):
            call_command("remove_second_factor", name)


def test_everything_that_seals_is_known_to_reseal():
    sealing = set()
    for top in ("clusters", "metrics", "opscenter"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.ImportFrom):
                    continue
                names = {alias.name for alias in node.names}
                if node.module == "opscenter.core.encryption" and names & {"seal", "key_ring"}:
                    sealing.add(str(Path(path).relative_to(ROOT)))
    assert sealing == {
        "clusters/accounts/adapters.py",  # reseal_factors
        "clusters/accounts/sealed_factors.py",
        "metrics/connections/config.py",  # reseal_sources
    }


@pytest.mark.parametrize("key", ["short", "x" * 50, "abcd" * 10, "0123456789" * 2])
def test_a_weak_key_is_refused_by_name(key):
    with pytest.raises(ImproperlyConfigured, match="OPSCENTER_SECRET_KEY: a secret key") as said:
        check_secret_key("OPSCENTER_SECRET_KEY", key)
    assert key not in str(said.value)


def test_a_random_key_is_taken():
    assert check_secret_key("K", "kD8s-2jfh_49fhqpWmZx") == "kD8s-2jfh_49fhqpWmZx"
