"""Secrets at rest: unreadable, tied to a key that may change."""

from __future__ import annotations

import pytest

from opscenter.core.encryption import SealBrokenError, seal, unseal


def test_a_secret_is_unreadable_and_comes_back():
    sealed = seal("päss word")
    assert "päss" not in sealed
    assert unseal(sealed) == "päss word"
    assert seal("päss word") != sealed
    assert (seal(""), unseal("")) == ("", "")


def test_a_secret_outlives_a_change_of_the_key_while_the_old_one_is_kept(settings):
    settings.SECRET_KEY = "old" * 20
    sealed = seal("x")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new" * 20, ["other", "old" * 20]
    assert unseal(sealed) == "x"
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(
        SealBrokenError, match=r"another OPSCENTER_SECRET_KEY; .* enter the secret again"
    ):
        unseal(sealed)


def test_a_changed_secret_is_refused():
    sealed = seal("x")
    with pytest.raises(SealBrokenError, match="was changed"):
        unseal(sealed[:-4] + "AAAA")
    with pytest.raises(SealBrokenError):
        unseal("nonsense")
