"""The forms of the account pages, where the framework's words or limits are not ours."""

from __future__ import annotations

from typing import Any

from allauth.account.forms import LoginForm
from allauth.core import context
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm

from clusters.accounts.attempts import code_attempt
from opscenter.core.budgets import BudgetError


class SignInForm(LoginForm):  # type: ignore[misc]
    """The sign-in form."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["remember"].label = "Stay signed in"
        for name in ("login", "password"):
            self.fields[name].widget.attrs.pop("placeholder", None)  # it repeats the label


class CodeForm(AuthenticateForm):  # type: ignore[misc]
    """The code of a second factor, after the password."""

    def clean_code(self) -> str:
        """Return the code.

        Raises:
            ValidationError: it is wrong.
            BudgetError: too many of the account were wrong. The pending sign-in is dropped: the
                password has to be entered again.
        """
        try:
            with code_attempt(context.request, self.user):
                return str(super().clean_code())
        except BudgetError:
            context.request.session.flush()
            raise


class CodeAgainForm(ReauthenticateForm):  # type: ignore[misc]
    """The code of a second factor from somebody who is signed in."""

    def clean_code(self) -> str:
        """Return the code.

        Raises:
            ValidationError: it is wrong.
            BudgetError: too many of the account were wrong. The session stays.
        """
        with code_attempt(context.request, self.user):
            return str(super().clean_code())
