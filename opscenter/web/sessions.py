"""Sessions in the database that can be read while it takes no writes.

``SESSION_ENGINE`` names this module. Django writes a session in passing when somebody is only
looked up by it: one that was signed with a former ``SECRET_KEY`` gets a new key, one from before a
change of the password is deleted. Here both may wait.
"""

from __future__ import annotations

from typing import Any

from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.backends.db import SessionStore as DatabaseSessionStore

from opscenter.core.database import best_effort, database_trouble


class SessionStore(DatabaseSessionStore):
    """A session whose changes in passing are best effort, unless it is strict.

    Attributes:
        strict: whether a change must be written or fail, as in a request that signs in or out.
    """

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self.strict = False

    def save(self, must_create: bool = False) -> None:  # noqa: FBT001, FBT002 - Django's
        """Store the session.

        Raises:
            UpdateError: if it was deleted meanwhile.
            DatabaseError: if the database refuses; Django would say that it was deleted.
        """
        try:
            super().save(must_create)
        except UpdateError as exc:
            refused = exc.__context__
            if refused is None or not database_trouble(refused):
                raise
            raise refused from refused.__cause__

    def cycle_key(self) -> None:
        """Give the session a new key; if that cannot be written, the session goes on as it was."""
        if self.strict:
            super().cycle_key()
            return
        key, data = self.session_key, dict(self.items())
        if not best_effort("a new key for a session", super().cycle_key):
            self._session_key, self._session_cache = key, data

    def flush(self) -> None:
        """Forget the session; its row stays if it cannot be deleted, and is refused again."""
        if self.strict:
            super().flush()
            return
        self.clear()
        best_effort("the end of a session", self.delete)
        self._session_key = None


def is_changed(session: Any) -> bool:
    """Return whether a request's session has changes to write."""
    return bool(session.modified and not session.is_empty())
