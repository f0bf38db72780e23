"""The hub's host key: made once, private, never replaced."""

from __future__ import annotations

import stat
from multiprocessing import get_context

import asyncssh
import pytest
from django.core.exceptions import ImproperlyConfigured

from clusters.tunnel.host_key import ensure_host_key, host_key_fingerprint, host_key_line


def test_the_key_is_made_once_and_only_its_owner_may_read_it(tmp_path):
    path = tmp_path / "hub_host_key"
    first = ensure_host_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ensure_host_key(path).get_fingerprint() == first.get_fingerprint()
    assert [file.name for file in tmp_path.iterdir()] == ["hub_host_key"]


def _fingerprint(path):
    return ensure_host_key(path).get_fingerprint()


@pytest.mark.usefixtures("starts_servers")
def test_processes_that_start_together_agree_on_one_key(tmp_path):
    with get_context("fork").Pool(4) as pool:
        keys = pool.map(_fingerprint, [tmp_path / "hub_host_key"] * 8, chunksize=1)
    assert len(set(keys)) == 1


def test_the_public_line_and_the_fingerprint_belong_to_the_key(tmp_path, settings):
    settings.HUB_HOST_KEY_PATH = tmp_path / "hub_host_key"
    line = host_key_line()
    assert line.startswith("ssh-ed25519 AAAA")
    assert len(line.split()) == 2
    assert host_key_fingerprint() == ensure_host_key(settings.HUB_HOST_KEY_PATH).get_fingerprint()
    assert host_key_fingerprint().startswith("SHA256:")


def test_a_file_without_a_key_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "hub_host_key"
    path.write_text("not a key\n")
    with pytest.raises(ImproperlyConfigured, match="OPSCENTER_HUB_HOST_KEY_FILE"):
        ensure_host_key(path)
    assert path.read_text() == "not a key\n"


def test_a_key_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "hub_host_key"
    asyncssh.generate_private_key("ecdsa-sha2-nistp256").write_private_key(str(path))
    with pytest.raises(ImproperlyConfigured, match="not ed25519"):
        ensure_host_key(path)


def test_a_directory_that_is_missing_is_named(tmp_path):
    with pytest.raises(ImproperlyConfigured, match="missing/hub_host_key"):
        ensure_host_key(tmp_path / "missing" / "hub_host_key")
