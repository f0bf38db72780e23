"""The interface of sources: adapters that turn a window of one cluster into rows.

A source knows neither Django nor the tunnel: it gets a client that sends requests to the cluster,
and it trusts nothing that comes back. The client handles credentials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from metrics.series.catalog import Kind
from metrics.series.rows import SeriesKey
from metrics.series.source_answer import SourceAnswer
from metrics.sources.parse_concurrency import ParseSlot


class JsonClient(Protocol):
    """Sends requests to one service of one cluster, with a deadline and a cap on the answer."""

    async def get_json(
        self,
        path: str,
        params: Mapping[str, str] = ...,
        *,
        before_parsing: Callable[[], object] = ...,
    ) -> Any:
        """Return the parsed answer; call ``before_parsing`` once it has arrived.

        Raises:
            ClusterError: the answer of the cluster, or of its service, is missing or refused.
        """


class HttpClient(JsonClient, Protocol):
    """The additional methods that sources other than our own agent need.

    Attributes:
        server_date: the ``Date`` header of the last answer as Unix seconds, within half a second;
            None if it had none.
    """

    server_date: float | None

    async def post_form_json(
        self,
        path: str,
        form: Mapping[str, str],
        *,
        before_parsing: Callable[[], object] = ...,
    ) -> Any:
        """Return the parsed answer to a form; otherwise as :meth:`get_json`.

        For queries that are too long for a URL.
        """

    async def get_text(
        self, path: str, params: Mapping[str, str] = ..., *, accept: str = ...
    ) -> str:
        """Return the answer as text; it must be UTF-8.

        Raises:
            ClusterError: as :meth:`get_json`.
        """

    async def post_text(
        self, path: str, body: Any, params: Mapping[str, str] = ..., *, accept: str = ...
    ) -> str:
        """Send ``body`` as JSON and return the answer as text.

        Raises:
            ClusterError: as :meth:`get_json`.
        """


@dataclass(frozen=True, slots=True)
class Resolution:
    """How far back a source has values of one width.

    Attributes:
        step: width in seconds.
        reach: how long the source keeps them, in seconds; None if not known.
        tier: the tier that they are written to: "1m", "10m" or "1h".
    """

    step: int
    reach: int | None
    tier: str


@dataclass(frozen=True, slots=True)
class FieldProbe:
    """Whether a source has one field of the catalogue, and if not, why.

    Attributes:
        kind: the series' kind.
        field: the field, a name of the catalogue.
        series: how many series have it now; 0 if none.
        why: why it is missing, and what would provide it; "" if it is present.
    """

    kind: Kind
    field: str
    series: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a source has, as a test of it found.

    Attributes:
        product: the server's product, e.g. "Prometheus", "VictoriaMetrics", "InfluxDB".
        version: as the server reports it; "" if it does not.
        oldest: start of its oldest data in Unix seconds; None if it has none.
        newest: time of its newest data in Unix seconds; None if it has none.
        series: how many series of each kind it has now.
        fields: every field of node, filesystem and pod, present or missing.
        resolutions: how long it keeps values of each width, as found on the server.
        notes: short lines for display: label generation, replicas, retention policies.
    """

    product: str
    version: str
    oldest: int | None
    newest: int | None
    series: Mapping[Kind, int]
    fields: Sequence[FieldProbe]
    resolutions: Sequence[Resolution] = ()
    notes: Sequence[str] = field(default=())


class Source(Protocol):
    """Reads windows of one cluster.

    Attributes:
        overlap_seconds: how long the source may still change a minute that it has served; 0 if a
            minute is final once it is served.
    """

    overlap_seconds: ClassVar[int]

    async def fetch(
        self, client: JsonClient, start: int, end: int, *, now: float, slot: ParseSlot
    ) -> SourceAnswer:
        """Return what the cluster has of ``[start, end)``.

        Args:
            client: the client that reaches the cluster.
            start: start of the window in Unix seconds, minute aligned.
            end: end of the window in Unix seconds, exclusive, minute aligned.
            now: our clock in Unix seconds, to check the cluster's against.
            slot: the parse slot: acquired before an answer is parsed, released while waiting for
                the cluster; held on return, for the caller to store the rows.

        Raises:
            ClusterError: nothing is known about the window.
        """


class HttpSource(Protocol):
    """A source other than our agent, which declares what it keeps and what load it tolerates.

    Attributes:
        overlap_seconds: as in :class:`Source`.
        settle_seconds: how long after its end a minute is complete at the source; the newest
            requested minute ends no later than ``now - settle_seconds``.
        longest_request_seconds: longest window of one :meth:`fetch`; the source may cut it further.
        resolutions: how long it keeps values of each width, finest first.
    """

    overlap_seconds: ClassVar[int]
    settle_seconds: ClassVar[int]
    longest_request_seconds: ClassVar[int]

    @property
    def resolutions(self) -> Sequence[Resolution]:
        """Return how long the source keeps values of each width, finest first; never empty."""

    async def fetch(
        self, client: HttpClient, start: int, end: int, *, now: float, slot: ParseSlot
    ) -> SourceAnswer:
        """Return what the cluster has of ``[start, end)``; as :meth:`Source.fetch`.

        A window that is older than the finest values is answered with coarse rows; the answer ends
        where finer ones begin.
        """

    async def probe(self, client: HttpClient, *, now: float) -> Probe:
        """Return what the source has, for the form that adds it; a few small queries.

        Raises:
            ClusterError: it does not answer, refuses, or is a different kind of server.
        """


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """One field of one series at a source's finest step, ascending in time. Nothing is stored.

    Attributes:
        t: times in Unix seconds, labelled as stored minutes are: a value that a source reports at
            the end of a minute is at the minute's start.
        v: values, one for each of ``t``, in the catalogue's unit.
        step: the values' distance at the source, in seconds; None if not known.
        note: one line for display about what the values are; "" if there is nothing to add.
    """

    t: Sequence[float]
    v: Sequence[float]
    step: float | None = None
    note: str = ""


@runtime_checkable
class RawSource(Protocol):
    """A source that returns raw values, live, for a chart that is zoomed in."""

    async def raw(
        self, client: Any, key: SeriesKey, field: str, start: int, end: int, *, now: float
    ) -> RawAnswer:
        """Return what the cluster has of one field of one series in ``[start, end)``.

        Empty if it has nothing of the series then.

        Raises:
            ClusterError: the source's answer is missing or refused.
            InvalidInputError: it has no such field, or only as part of another.
        """
