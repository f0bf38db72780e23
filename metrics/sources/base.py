"""What every source is: an adapter that turns a window of one cluster into rows.

A source knows neither Django nor the tunnel: it gets a client that asks the cluster, and it
trusts nothing that comes back. Credentials are the client's affair.
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
    """Asks one service of one cluster, with a deadline and a cap on the answer's size."""

    async def get_json(
        self,
        path: str,
        params: Mapping[str, str] = ...,
        *,
        before_parsing: Callable[[], object] = ...,
    ) -> Any:
        """Return the parsed answer; call ``before_parsing`` once it is in.

        Raises:
            ClusterError: the cluster, or the service in it, did not answer acceptably.
        """


class HttpClient(JsonClient, Protocol):
    """What sources other than our own agent need besides.

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
        """Return the parsed answer to a form; as :meth:`get_json` otherwise.

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
        reach: for how long it keeps them, in seconds; None if that is not known.
        tier: the tier that they enter: "1m", "10m" or "1h".
    """

    step: int
    reach: int | None
    tier: str


@dataclass(frozen=True, slots=True)
class FieldProbe:
    """Whether a source has one field of the catalogue, and if not, why.

    Attributes:
        kind: of the series.
        field: of the catalogue.
        series: how many series have it now; 0 if none.
        why: why it is missing, and what would bring it; "" if it is there.
    """

    kind: Kind
    field: str
    series: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a source says of itself when it is asked for the first time.

    Attributes:
        product: what answered, e.g. "Prometheus", "VictoriaMetrics", "InfluxDB".
        version: as it says itself; "" if it does not say.
        oldest: start of its oldest data, Unix seconds; None if it has none.
        newest: its newest data; None if it has none.
        series: how many series of each kind it has now.
        fields: every field of node, filesystem and pod, present or missing.
        resolutions: what it keeps for how long, as found on the server.
        notes: short lines for people: label generation, replicas, retention policies.
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
            client: asks the cluster.
            start: minute aligned, Unix seconds.
            end: exclusive, minute aligned.
            now: our clock, to judge the cluster's by.
            slot: taken before an answer is parsed, given back while the cluster is asked; held
                at the end, for the caller to store the rows.

        Raises:
            ClusterError: nothing can be said of the window.
        """


class HttpSource(Protocol):
    """A source that is no agent of ours: what it keeps and stands is declared.

    Attributes:
        overlap_seconds: as :class:`Source`.
        settle_seconds: how long after its end a minute is complete at the source; the newest
            minute that is asked for ends no later than ``now - settle_seconds``.
        longest_request_seconds: of one :meth:`fetch`; the source cuts it further as it needs.
        resolutions: what it keeps for how long, finest first.
    """

    overlap_seconds: ClassVar[int]
    settle_seconds: ClassVar[int]
    longest_request_seconds: ClassVar[int]

    @property
    def resolutions(self) -> Sequence[Resolution]:
        """Return what the source keeps for how long, finest first; never empty."""

    async def fetch(
        self, client: HttpClient, start: int, end: int, *, now: float, slot: ParseSlot
    ) -> SourceAnswer:
        """Return what the cluster has of ``[start, end)``; as :meth:`Source.fetch`.

        A window older than the finest values' reach is answered with coarse rows, up to the
        moment at which finer ones begin: the answer then ends there.
        """

    async def probe(self, client: HttpClient, *, now: float) -> Probe:
        """Return what the source has, for the form that adds it; a few small queries.

        Raises:
            ClusterError: it does not answer, refuses, or is no such server.
        """


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """One field of one series as finely as a source has it, ascending in time. Nothing is stored.

    Attributes:
        t: Unix seconds, on the same clock as stored minutes: what a source says at the end of a
            minute is at the minute's start.
        v: values, as long as ``t``, in the catalogue's unit.
        step: how far apart the source has them, in seconds; None if that is not known.
        note: one line for people on what the values are; "" for nothing to add.
    """

    t: Sequence[float]
    v: Sequence[float]
    step: float | None = None
    note: str = ""


@runtime_checkable
class RawSource(Protocol):
    """A source that can be asked for single values, live, for a chart that is zoomed in."""

    async def raw(
        self, client: Any, key: SeriesKey, field: str, start: int, end: int, *, now: float
    ) -> RawAnswer:
        """Return what the cluster has of one field of one series in ``[start, end)``.

        Empty if it has nothing of the series then.

        Raises:
            ClusterError: the source does not answer acceptably.
            InvalidInputError: it has no such field, or not by itself.
        """
