"""What is shown of a refusal's body, and what reading it costs."""

from __future__ import annotations

import pytest

from clusters.tunnel.client.refusals import MAX_TEXT, refusal_text


@pytest.mark.parametrize("start", ["<script ", "<", "</style><style>", "<a "])
def test_a_page_of_tags_that_do_not_end_is_read_once(start: str) -> None:
    # Were it read again from each of them, this test would take minutes.
    assert len(refusal_text(start.encode() * 100_000, ())) <= MAX_TEXT


def test_a_sign_for_less_is_no_tag() -> None:
    words = refusal_text(b"<b>limit</b> 3 < 5 of <i>1</i>", ()).split()
    assert " ".join(words) == "limit 3 < 5 of 1"
