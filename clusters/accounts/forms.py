"""The forms of the account pages, where the framework's words are not ours."""

from __future__ import annotations

from typing import Any

from allauth.account.forms import LoginForm


class SignInForm(LoginForm):  # type: ignore[misc]
    """The sign-in form."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["remember"].label = "Stay signed in"
        for name in ("login", "password"):
            self.fields[name].widget.attrs.pop("placeholder", None)  # it repeats the label
