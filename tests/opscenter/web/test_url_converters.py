"""Names in URLs: the name in a link is the name that the page gets."""

from __future__ import annotations

from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscenter.web.url_converters import Anything, Segment

BASE = "http://centre/clusters/1/nodes/"
NAMES = st.one_of(
    st.text(min_size=1),
    st.lists(st.sampled_from(["", ".", "..", "~", "~.", "~~..", "~1", "~3", "a"])).map("/".join),
).filter(bool)


def followed(part: str) -> str:
    """Return the path that a server sees below BASE when a browser follows the link."""
    # urljoin resolves dot segments as browsers do; encoded ones count as well.
    href = f"/clusters/1/nodes/{quote(part, errors='surrogatepass')}/".replace("%2E", ".")
    path = unquote(urlsplit(urljoin(BASE, href)).path, errors="surrogatepass")
    assert path.startswith("/clusters/1/nodes/")
    assert path.endswith("/")
    return path.removeprefix("/clusters/1/nodes/")[:-1]


@given(NAMES)
def test_a_link_to_any_name_leads_to_it(name):
    assert Anything().to_python(followed(Anything().to_url(name))) == name


@given(st.one_of(st.just(""), NAMES))
def test_any_text_stands_as_one_part(text):
    part = Segment().to_url(text)
    assert "/" not in part
    assert Segment().to_python(followed(part)) == text


@pytest.mark.parametrize("name", ["worker-1.example", "system.slice/ssh.service", "a~b", "..."])
def test_usual_names_stand_as_they_are(name):
    assert Anything().to_url(name) == name
