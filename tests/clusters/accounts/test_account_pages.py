"""The account pages against strangers, and what they leave in the audit log."""

from __future__ import annotations

import time

import pytest
from allauth.mfa.adapter import get_adapter
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value
from django.contrib.auth.models import Group
from django.urls import reverse

from clusters.access import OPERATORS
from clusters.models import AuditEvent
from opscenter.core.encryption import SealBrokenError, unseal
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db
LOGIN = "/accounts/login/"
SECRET = "JBSWY3DPEHPK3PXP"
OLD_KEY = "fixed test key of an earlier version"
# SECRET as stored under OLD_KEY when second factors had their own encryption.
ENCRYPTED_BEFORE_SEALING = (
    "gAAAAABrDFK3587STWGGe2FnXYnX_AOVasfEZEPjVcWBCtp5PyVu3zpViOn8uUW7cPvHl0vj0bpO51VLQnLsRb6QvHpZ5"
    "uYWOqnp4TyI4vtCIKac-x5EMjo="
)


@pytest.mark.parametrize(
    "path",
    [
        "signup/", "email/", "confirm-email/", "confirm-email/abc/", "password/set/",
        "password/reset/", "password/reset/done/", "password/reset/key/1-abc/", "login/code/",
        "social/login/cancelled/", "3rdparty/",
    ],
)  # fmt: skip
def test_pages_that_need_mail_or_let_strangers_in_are_not_there(client, operator, path):
    for _ in range(2):
        assert client.get(f"/accounts/{path}").status_code == 404
        assert client.post(f"/accounts/{path}", {"email": "a@example.org"}).status_code == 404
        client.force_login(operator, backend="django.contrib.auth.backends.ModelBackend")


@pytest.mark.parametrize("path", ["password/change/", "2fa/", "reauthenticate/"])
def test_the_pages_of_oneself_open_and_lead_to_no_closed_one(client, operator, path):
    client.post(LOGIN, {"login": "operator", "password": PASSWORD})
    page = client.get(f"/accounts/{path}", follow=True).content.decode()
    assert "/password/reset/" not in page
    assert "/accounts/email/" not in page


@pytest.mark.parametrize(
    "target",
    ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)",
     "https:evil.example", "\thttps://evil.example"],
)  # fmt: skip
def test_a_sign_in_leads_nowhere_else(client, operator, target):
    sent = {"login": "operator", "password": PASSWORD, "next": target}
    assert client.post(LOGIN, sent)["location"] == "/"


def code_of(secret: str) -> str:
    return str(format_hotp_value(hotp_value(secret, int(time.time()) // 30)))


def test_second_factors_are_unreadable_in_the_database_and_work(client, operator):
    TOTP.activate(operator, SECRET)
    stored = str(Authenticator.objects.get().data)
    assert SECRET not in stored
    assert get_adapter().decrypt(Authenticator.objects.get().data["secret"]) == SECRET
    assert client.post(LOGIN, {"login": "operator", "password": PASSWORD}).status_code == 302
    assert client.get("/").status_code == 302  # not signed in yet
    client.post("/accounts/2fa/authenticate/", {"code": "000000"})
    line = AuditEvent.objects.get(action="second_factor.use")
    assert (line.actor, line.ok) == ("operator", False)
    client.post("/accounts/2fa/authenticate/", {"code": code_of(SECRET)})
    assert client.get("/").status_code == 200


def test_a_second_factor_outlives_a_change_of_the_key_while_the_old_one_is_kept(
    client, operator, settings
):
    settings.SECRET_KEY = "old" * 20
    TOTP.activate(operator, SECRET)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new" * 20, ["old" * 20]
    client.post(LOGIN, {"login": "operator", "password": PASSWORD})
    client.post("/accounts/2fa/authenticate/", {"code": code_of(SECRET)})
    assert client.get("/").status_code == 200
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(SealBrokenError, match="another OPSCENTER_SECRET_KEY"):
        get_adapter().decrypt(Authenticator.objects.get().data["secret"])


@pytest.mark.parametrize(("key", "fallbacks"), [(OLD_KEY, []), ("new" * 20, ["x" * 20, OLD_KEY])])
def test_a_second_factor_of_an_older_version_is_still_read(
    client, operator, settings, key, fallbacks
):
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = key, fallbacks
    data = {"secret": ENCRYPTED_BEFORE_SEALING}
    Authenticator.objects.create(user=operator, type=Authenticator.Type.TOTP, data=data)
    client.post(LOGIN, {"login": "operator", "password": PASSWORD})
    client.post("/accounts/2fa/authenticate/", {"code": code_of(SECRET)})
    assert client.get("/").status_code == 200


def test_a_second_factor_of_an_older_version_is_lost_with_its_key(settings):
    settings.SECRET_KEY = "new" * 20
    with pytest.raises(SealBrokenError, match=r"another OPSCENTER_SECRET_KEY; .* set it up again"):
        get_adapter().decrypt(ENCRYPTED_BEFORE_SEALING)
    settings.SECRET_KEY = OLD_KEY
    with pytest.raises(SealBrokenError):
        get_adapter().decrypt(ENCRYPTED_BEFORE_SEALING[:-8] + "AAAAAAA=")


def test_recovery_codes_are_sealed_and_work(client, operator):
    TOTP.activate(operator, SECRET)
    code = RecoveryCodes.activate(operator).get_unused_codes()[0]
    row = Authenticator.objects.get(type=Authenticator.Type.RECOVERY_CODES)
    assert unseal(row.data["seed"])
    client.post(LOGIN, {"login": "operator", "password": PASSWORD})
    client.post("/accounts/2fa/authenticate/", {"code": code})
    assert client.get("/").status_code == 200


def test_a_changed_password_is_recorded_and_ends_other_sessions(client, operator):
    client.post(LOGIN, {"login": "operator", "password": PASSWORD})
    other = type(client)()
    other.post(LOGIN, {"login": "operator", "password": PASSWORD})
    new = "an even longer passphrase"
    sent = {"oldpassword": PASSWORD, "password1": new, "password2": new}
    assert client.post("/accounts/password/change/", sent).status_code == 302
    assert AuditEvent.objects.filter(action="user.password", actor="operator").exists()
    assert other.get("/").status_code == 302


@pytest.fixture
def as_admin(client, admin):
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    return client


def test_the_admin_shows_no_second_factor_and_records_its_removal(as_admin, operator):
    TOTP.activate(operator, SECRET)
    row = Authenticator.objects.get()
    page = as_admin.get(reverse("admin:mfa_authenticator_change", args=[row.pk]))
    assert page.status_code == 200
    assert row.data["secret"] not in page.content.decode()
    as_admin.post(reverse("admin:mfa_authenticator_delete", args=[row.pk]), {"post": "yes"})
    assert not Authenticator.objects.exists()
    assert AuditEvent.objects.filter(action="admin.authenticator.delete", actor="admin").exists()


def test_a_role_given_in_the_admin_is_recorded(as_admin):
    user = UserFactory(username="newcomer")
    group, _ = Group.objects.get_or_create(name=OPERATORS)
    sent = {
        "username": "newcomer", "is_active": "on", "groups": [group.pk],
        "date_joined_0": "2026-01-01", "date_joined_1": "00:00:00",
    }  # fmt: skip
    answer = as_admin.post(reverse("admin:auth_user_change", args=[user.pk]), sent)
    assert answer.status_code == 302, answer.content
    line = AuditEvent.objects.get(action="user.rights")
    assert line.detail["groups"] == [OPERATORS]
    assert (line.detail["superuser"], line.detail["active"]) == (False, True)


def test_a_password_set_in_the_admin_is_recorded_without_it(as_admin, operator):
    new = "set by the administrator"
    address = reverse("admin:auth_user_password_change", args=[operator.pk])
    answer = as_admin.post(address, {"password1": new, "password2": new, "usable_password": "true"})
    assert answer.status_code == 302
    line = AuditEvent.objects.get(action="user.password")
    assert (line.actor, line.detail) == ("admin", {"user": "operator"})


def test_the_sign_in_names_the_product_and_says_what_to_do_about_a_lost_password(client):
    page = " ".join(client.get(LOGIN).content.decode().split())
    assert "<h1>Sign in to Ops Center</h1>" in page
    assert "forgot your password? Ask your administrator" in page
    assert "Stay signed in" in page
    assert "Remember Me" not in page


def test_the_pages_of_the_second_factor_speak_as_the_others_do(client, operator):
    client.post(LOGIN, {"login": "operator", "password": PASSWORD})
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})

    def page(path: str) -> str:
        answer = client.get(f"/accounts/2fa/{path}")
        assert answer.status_code == 200, answer.headers
        return " ".join(answer.content.decode().split())

    assert "Off. You sign in with your password only." in page("")
    assert '<div class="head"><h1>Set up an authenticator app</h1></div>' in page("totp/activate/")
    secret = client.session["mfa.totp.secret"]
    client.post("/accounts/2fa/totp/activate/", {"code": code_of(secret)})
    assert "On. You need a code" in page("")
    assert "10 of 10 recovery codes have not been used" in page("recovery-codes/")
    assert "Your existing codes stop working" in page("recovery-codes/generate/")
    assert "Turn off the authenticator app" in page("totp/deactivate/")
    client.post("/accounts/2fa/totp/deactivate/")
    assert "Off. You sign in with your password only." in page("")


@pytest.mark.parametrize("path", ["password/change/", "reauthenticate/", "2fa/", "logout/"])
def test_titles_are_written_as_sentences(client, operator, path):
    client.post(LOGIN, {"login": "operator", "password": PASSWORD})
    page = client.get(f"/accounts/{path}").content.decode()
    for words in (
        "Two-Factor",
        "Change Password",
        "Confirm Access",
        "Sign Out",
        "Authenticator App",
    ):
        assert words not in page
