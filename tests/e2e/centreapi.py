"""A running centre, through an operator's script and a person's session."""

from __future__ import annotations

import http.cookiejar
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from datetime import datetime
from typing import Any

from tests.centre import Centre


class Api:
    """The REST API with an administrator's token."""

    def __init__(self, centre: Centre) -> None:
        made = centre.manage("create_token", "e2e", "--user", "admin")
        assert made.returncode == 0, made.stderr
        self.centre = centre
        self.token = made.stdout.strip()

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Return status and parsed body; (0, reason) if nothing answers."""
        request = urllib.request.Request(
            f"{self.centre.url}/api/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Token {self.token}", "Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read().decode()
        except OSError as exc:
            return 0, str(exc)

    def get(self, path: str) -> Any:
        """Return what a GET answers; anything but 200 fails."""
        status, body = self.ask("GET", path)
        assert status == 200, f"{path}: {status} {body}"
        return body

    def post(self, path: str, body: Any = None) -> Any:
        """Return what a POST answers; anything but success fails."""
        status, answer = self.ask("POST", path, {} if body is None else body)
        assert 200 <= status < 300, f"{path}: {status} {answer}"
        return answer

    def clusters(self) -> dict[str, dict[str, Any]]:
        """Return the fleet by name."""
        return {item["name"]: item for item in self.get("/clusters/?page_size=200")["results"]}

    def cluster(self, cluster_id: str) -> dict[str, Any]:
        """Return one cluster in full."""
        return dict(self.get(f"/clusters/{cluster_id}/"))

    def windows(self, cluster_id: str, state: str = "") -> list[dict[str, Any]]:
        """Return the gap ledger of the last day, only of one state if given."""
        wanted = f"?state={state}" if state else ""
        return list(self.get(f"/clusters/{cluster_id}/windows{wanted}")["results"])

    def add_cluster(self, name: str) -> tuple[str, str]:
        """Add a cluster; return its id and a join token."""
        made = self.post("/clusters/", {"name": name})
        return made["id"], self.post(f"/clusters/{made['id']}/join-token/")["token"]


class Pages:
    """A signed-in session without scripts."""

    def __init__(self, centre: Centre) -> None:
        self.url = centre.url
        self._cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self._cookies)
        )
        form = self.get("/accounts/login/")
        found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
        assert found, form
        password = (centre.data_dir / "admin_password").read_text().strip()
        fields = {"csrfmiddlewaretoken": found[1], "login": "admin", "password": password}
        request = urllib.request.Request(
            f"{self.url}/accounts/login/",
            urllib.parse.urlencode(fields).encode(),
            {"Referer": f"{self.url}/accounts/login/"},
        )
        with self._opener.open(request, timeout=20) as answer:
            assert answer.url == f"{self.url}/", answer.read().decode()

    @property
    def cookies(self) -> list[dict[str, str]]:
        """Return the session's cookies as a browser takes them."""
        return [{"name": c.name, "value": c.value or "", "url": self.url} for c in self._cookies]

    def get(self, path: str) -> str:
        """Return a page's text; anything but 200 fails."""
        with self._opener.open(self.url + path, timeout=20) as answer:
            return str(answer.read().decode())


def moment(text: str | None) -> float:
    """Return an API's time as Unix seconds; 0 for none."""
    return datetime.fromisoformat(text).timestamp() if text else 0.0
