"""Prometheus' HTTP API, read-only: the same paths, parameters, formats and error types."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar
from uuid import UUID

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import APIException
from rest_framework.parsers import FormParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from clusters import access
from clusters.api.base import request_user
from clusters.models import Cluster
from metrics.prometheus_api import parameters, responses
from metrics.prometheus_api.authentication import AnyHeaderAuthentication
from metrics.prometheus_api.deadline import LONGEST_SECONDS, Deadline, query_slot
from metrics.prometheus_api.errors import QueryError
from metrics.prometheus_api.evaluation import Evaluation
from metrics.prometheus_api.inventory import Found, check_number, cluster_labels, find
from metrics.prometheus_api.metric_names import CLUSTER_LABELS, KIND_LABELS, LABEL_NAMES, METRICS
from metrics.prometheus_api.promql import Match, parse
from metrics.series.catalog import Kind
from metrics.series.rows import SeriesKey
from metrics.stores import StoreError
from opscenter.core import large_answers
from opscenter.core.budgets import BudgetError
from opscenter.core.database import explain_trouble

SPOKEN_VERSION = "2.42.0"
"""The version of Prometheus whose API this is: clients choose their requests by it."""

log = logging.getLogger(__name__)


class PrometheusView(APIView):
    """An endpoint that answers as Prometheus does, including errors."""

    authentication_classes = (AnyHeaderAuthentication, SessionAuthentication)
    permission_classes = (IsAuthenticated,)  # a POST only reads: read-only tokens may
    parser_classes = (FormParser,)
    http_method_names = ["get", "post", "head"]
    schema = None  # Prometheus' own documentation describes it

    def get(self, request: Request, **path: str) -> HttpResponseBase:
        """Answer a query in the URL."""
        return self._answered(request.query_params, path)

    def post(self, request: Request, **path: str) -> HttpResponseBase:
        """Answer a query in a form; missing parameters are taken from the URL."""
        given = QueryDict(mutable=True)
        given.update(request.query_params)
        given.update(request.data)  # QueryDict.get() takes the last
        return self._answered(given, path)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:  # noqa: ARG002, FBT001, FBT002
        """Always answer with JSON: clients accept unusual types."""
        renderer = self.get_renderers()[0]
        return renderer, renderer.media_type

    def handle_exception(self, exc: Exception) -> Response:
        """Answer an error in Prometheus' format; bugs are raised."""
        if isinstance(exc, APIException):
            refused = super().handle_exception(exc)  # sets the headers of 401
            body = {"status": "error", "errorType": "bad_data", "error": str(exc.detail)}
            headers = {k: v for k, v in refused.items() if k in ("WWW-Authenticate", "Allow")}
            return responses.json_response(body, refused.status_code, headers)  # type: ignore[return-value]
        if trouble := explain_trouble(exc):
            return responses.prometheus_error(503, "unavailable", trouble)  # type: ignore[return-value]
        return super().handle_exception(exc)

    def data(self, given: parameters.Given, **path: str) -> list[bytes]:
        """Return the value of ``data``: JSON, in pieces.

        Raises:
            QueryError: the query cannot be answered.
        """
        raise NotImplementedError

    @property
    def clusters(self) -> list[Cluster]:
        """Return the clusters that the caller may see, by name."""
        visible = access.visible_clusters(request_user(self.request))
        return list(visible.select_related("customer").order_by("name"))

    def _answered(self, given: parameters.Given, path: dict[str, str]) -> HttpResponseBase:
        user = request_user(self.request).pk
        try:
            with query_slot(user):
                pieces = [b'{"status":"success","data":', *self.data(given, **path), b"}"]
                # What is large keeps its turn until it has a place to be sent from.
                return large_answers.answer(
                    self.request._request, pieces, content_type="application/json", user=user
                )
        except QueryError as exc:
            return responses.prometheus_error(exc.status, exc.error_type, str(exc))
        except BudgetError as exc:
            return responses.prometheus_error(429, "unavailable", str(exc), exc.headers())
        except StoreError as exc:
            log.error("metric store: %s", exc)
            msg = "the metric store cannot be read at the moment; Ops Center's log says why"
            return responses.prometheus_error(503, "unavailable", msg)


class QueryView(PrometheusView):
    """``query`` and ``query_range``: an expression at one time, or at many."""

    ranged: ClassVar[bool] = False

    def data(self, given: parameters.Given, **path: str) -> list[bytes]:
        """Return a matrix, a vector or a scalar."""
        del path
        now = time.time()
        grid = parameters.range_grid(given) if self.ranged else parameters.instant_grid(given, now)
        expression = parse(given.get("query") or "")
        deadline = Deadline(parameters.timeout_seconds(given, LONGEST_SECONDS))
        parts = Evaluation(self.clusters, grid, int(now), deadline).parts(expression)
        if not self.ranged:
            rows = [row for _, part in parts for row in part]
            return responses.vector(rows, grid, expression)
        matrix = responses.Matrix(grid)
        for first, part in parts:
            matrix.add(first, part)
        return matrix.pieces()


class QueryRangeView(QueryView):
    """``query_range``."""

    ranged = True


class SeriesView(PrometheusView):
    """``series``: the labels of matching series."""

    def data(self, given: parameters.Given, **path: str) -> list[bytes]:
        """Return one object of labels per series."""
        del path
        entries = self._entries(given, parameters.limit(given))
        return responses.Pieces().list(b"[", entries, b"]")

    def _entries(self, given: parameters.Given, wanted: int | None) -> Iterator[bytes]:
        """Yield the labels of each series once, at most ``wanted``."""
        seen: set[tuple[UUID, SeriesKey, str]] = set()
        for found in _each(self.clusters, given, parameters.selectors(given, needed=True)):
            for metric in found.metrics:
                for thing in found.things:
                    key = (found.cluster.pk, thing.key, metric.name)
                    if key in seen:
                        continue
                    seen.add(key)
                    check_number(len(seen))
                    yield orjson.dumps({"__name__": metric.name, **thing.labels})
                    if len(seen) == wanted:
                        return


class LabelsView(PrometheusView):
    """``labels``: the names of labels."""

    def data(self, given: parameters.Given, **path: str) -> list[bytes]:
        """Return the names, sorted; of matching series, if ``match[]`` is given."""
        del path
        selectors = parameters.selectors(given)
        names: set[str] = set()
        if selectors:
            for found in _each(self.clusters, given, selectors):
                names.add("__name__")
                names.update(*(thing.labels for thing in found.things))
        elif self.clusters:
            names = set(LABEL_NAMES)
        return responses.texts(sorted(names)[: parameters.limit(given)])


class LabelValuesView(PrometheusView):
    """``label/<name>/values``."""

    def data(self, given: parameters.Given, **path: str) -> list[bytes]:
        """Return the values of a label, sorted; of matching series, if ``match[]`` is given."""
        name = path["name"]
        selectors = parameters.selectors(given)
        found = responses.distinct(self._values(name, given, selectors))
        return responses.texts(sorted(found)[: parameters.limit(given)])

    def _values(
        self, name: str, given: parameters.Given, selectors: list[tuple[Match, ...]]
    ) -> Iterable[str]:
        clusters = self.clusters
        if name == "__name__":
            if not selectors:
                return METRICS if clusters else ()
            each = _each(clusters, given, selectors)
            return (metric.name for found in each for metric in found.metrics)
        if name in CLUSTER_LABELS and not selectors:
            labels = map(cluster_labels, clusters)
            return (found[name] for found in labels if name in found)
        kinds = [k for k, names in KIND_LABELS.items() if name in (*CLUSTER_LABELS, *names)]
        return (
            thing.labels[name]
            for found in _each(clusters, given, selectors or [()], kinds)
            for thing in found.things
            if name in thing.labels
        )


class MetadataView(PrometheusView):
    """``metadata``: type, unit and meaning of each metric."""

    def data(self, given: parameters.Given, **path: str) -> list[bytes]:
        """Return an entry per metric, without data of any cluster."""
        del path
        return [orjson.dumps(responses.metadata(given.get("metric"), parameters.limit(given)))]


class BuildInfoView(PrometheusView):
    """``status/buildinfo``: the version of the API that clients can expect."""

    def data(self, given: parameters.Given, **path: str) -> list[bytes]:
        """Return the API's version, and ours."""
        del given, path
        about = {
            "version": SPOKEN_VERSION,
            "revision": "",
            "branch": f"Ops Center {settings.VERSION}",
            "buildUser": "",
            "buildDate": "",
            "goVersion": "",
        }
        return [orjson.dumps(about)]


@csrf_exempt
def not_there(request: HttpRequest, path: str) -> HttpResponse:
    """Answer endpoints that only Prometheus has, such as rules and targets."""
    del request
    msg = f"{path[:100]}: Ops Center has no such endpoint of Prometheus' API"
    return responses.prometheus_error(404, "not_found", msg)


def _each(
    clusters: list[Cluster],
    given: parameters.Given,
    selectors: list[tuple[Match, ...]],
    kinds: Iterable[Kind] = tuple(KIND_LABELS),
) -> Iterator[Found]:
    """Yield the series that match any selector; those that match several more than once."""
    since, deadline = parameters.since_seconds(given), Deadline()
    for matches in selectors:
        yield from find(clusters, matches, since=since, deadline=deadline, kinds=kinds)
