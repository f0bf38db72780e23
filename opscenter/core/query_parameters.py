"""Query parameters of the REST API, and bodies where there are none, read strictly.

Apart from :mod:`opscenter.core.api`, which Django REST framework imports before its views exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from drf_spectacular.utils import OpenApiParameter
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.views import APIView

from opscenter.core.request_bodies import require_no_body
from opscenter.core.text import one_line

_SHOWN_NAME, _SHOWN_FIELDS = 100, 20  # characters and number of unknown names


class StrictQueryView(APIView):
    """An endpoint that refuses an unknown query parameter, and a body where it takes none.

    If it ignored a misspelt filter, it would answer with everything. ``query_parameters`` holds
    what GET takes; pages and filter sets add theirs. Other methods take none. ``body_methods``
    read a body, by a :class:`~opscenter.core.request_bodies.StrictSerializer`.
    """

    query_parameters: ClassVar[Sequence[OpenApiParameter]] = ()
    body_methods: ClassVar[frozenset[str]] = frozenset()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate the user, then check the query, and that no body is ignored.

        Raises:
            ValidationError: naming each unknown parameter, and each single one that is given twice;
                or naming each key of a body that is not wanted.
        """
        super().initial(request, *args, **kwargs)
        if request.method not in self.allowed_methods:
            return  # 405 comes next, with any query
        known = self.known_parameters() if request.method in ("GET", "HEAD") else {}
        wrong = {}
        for name, values in request.query_params.lists():
            shown = one_line(name, _SHOWN_NAME) or "?"
            if name not in known:
                wrong[shown] = ["There is no such parameter here."]
            elif len(values) > 1 and not known[name]:
                wrong[shown] = ["Give it once."]
        if wrong:
            raise exceptions.ValidationError(dict(list(wrong.items())[:_SHOWN_FIELDS]))
        if request.method not in {"GET", "HEAD", "OPTIONS", *self.body_methods}:
            require_no_body(request)

    def known_parameters(self) -> dict[str, bool]:
        """Return the names of what GET takes, and whether each may be given more than once."""
        known = {parameter.name: bool(parameter.many) for parameter in self.query_parameters}
        if getattr(self, "paginator", None) is not None:
            known |= {"page": False, "page_size": False}
        filters = getattr(self, "filterset_class", None)
        if filters is not None:
            known |= dict.fromkeys(filters.base_filters, False)
        return known
