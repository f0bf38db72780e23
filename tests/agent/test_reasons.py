import asyncio
import ssl

import aiohttp
import pytest

from agent.reasons import reason_of


@pytest.mark.parametrize("trust", [ssl.create_default_context(), True, False])
async def test_a_connection_that_fails_is_said_without_objects(unused_port, trust):
    url = f"https://127.0.0.1:{unused_port}/"
    with pytest.raises(aiohttp.ClientError) as caught:
        async with aiohttp.ClientSession() as session, session.get(url, ssl=trust):
            pass
    said = reason_of(caught.value)
    assert said.startswith(f"Cannot connect to host 127.0.0.1:{unused_port} [")
    assert "object at" not in said
    assert "ssl:" not in said


def test_an_error_without_words_is_its_class():
    assert reason_of(asyncio.CancelledError()) == "CancelledError"
