"""The query parameters of the endpoints about metrics, validated strictly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from metrics.query import OFFSETS, By, SeriesKey
from metrics.series.catalog import FIELD_NAMES, Kind
from opscenter.core.api import whole_number

KINDS: tuple[Kind, ...] = tuple(FIELD_NAMES)
WINDOW_STATES = ("done", "gap", "lost")
MAX_POINTS = 1440
MAX_TOP = 500
FORMATS = ("json", "csv")
TOP_KINDS: tuple[Kind, ...] = ("pod", "node", "filesystem", "cluster")
RAW_KINDS: tuple[Kind, ...] = ("node", "filesystem", "pod")
TOP_BY: tuple[By, ...] = ("mean", "max")
_FIELDS = sorted({field for names in FIELD_NAMES.values() for field in names})
_LATEST = 2**40
_NAME_LENGTH = 300
_UNIX = {"type": "integer", "minimum": 0, "maximum": _LATEST}
_NAME = {"type": "string", "maxLength": _NAME_LENGTH}

START = OpenApiParameter("start", _UNIX, description="Unix seconds, included.")
END = OpenApiParameter("end", _UNIX, description="Unix seconds, excluded; default: now.")
RANGE_PARAMETERS = [
    OpenApiParameter("kind", str, required=True, enum=KINDS),
    OpenApiParameter(
        "name", _NAME, description="Node, pod or mount point; not given for kind=cluster."
    ),
    OpenApiParameter("ns", _NAME, description="A pod's namespace, a filesystem's node."),
    OpenApiParameter(
        "field",
        str,
        required=True,
        enum=_FIELDS,
    ),
    START,
    END,
    OpenApiParameter(
        "points",
        {"type": "integer", "minimum": 2, "maximum": MAX_POINTS, "default": MAX_POINTS},
        description="At most so many buckets; the finest tier that fits is taken.",
    ),
]
FORMAT = OpenApiParameter(
    "format", str, enum=FORMATS, default="json", description="csv: the same as a file."
)
COMPARE = OpenApiParameter(
    "compare",
    str,
    enum=tuple(OFFSETS),
    description="Beside the range the same one a day, a week or four weeks earlier.",
)
RANGE_PARAMETERS += [COMPARE, FORMAT]
RAW_PARAMETERS = [
    OpenApiParameter("kind", str, required=True, enum=RAW_KINDS),
    OpenApiParameter("name", _NAME, required=True, description="Node, pod or mount point."),
    OpenApiParameter("ns", _NAME, description="A pod's namespace, a filesystem's node."),
    OpenApiParameter("field", str, required=True, enum=_FIELDS),
    START,
    END,
    FORMAT,
]
TOP_PARAMETERS = [
    OpenApiParameter("kind", str, enum=TOP_KINDS, default="pod"),
    OpenApiParameter("field", str, enum=_FIELDS, default="cpu_mc"),
    OpenApiParameter(
        "by", str, enum=TOP_BY, default="mean", description="The mean, or the highest sample."
    ),
    START,
    END,
    OpenApiParameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": MAX_TOP, "default": 20},
        description="At most so many entries.",
    ),
    OpenApiParameter("q", _NAME, description="A part of the namespace or the name."),
    FORMAT,
]
FLEET_TOP_PARAMETERS = [
    *TOP_PARAMETERS,
    OpenApiParameter("customer", _NAME, description="Only clusters of the customer of this name."),
]
POD_PARAMETERS = [
    OpenApiParameter("q", _NAME, description="A part of the namespace, the name or the node."),
    OpenApiParameter("node", _NAME, description="Only pods that run on this node."),
    OpenApiParameter(
        "order",
        str,
        enum=("name", *FIELD_NAMES["pod"]),
        default="cpu_mc",
        description="A field, largest first, or the name.",
    ),
]
WINDOW_PARAMETERS = [
    START,
    END,
    OpenApiParameter(
        "state", str, many=True, enum=WINDOW_STATES, description="Any of these; default: all."
    ),
]
FILESYSTEM_PARAMETERS = [OpenApiParameter("node", OpenApiTypes.STR, description="Of this node.")]


@dataclass(frozen=True, slots=True)
class RangeQuery:
    """The validated query of a range of one field of one series."""

    key: SeriesKey
    field: str
    start: int
    end: int
    points: int
    compare: int | None
    """How much earlier the range to compare with is, in seconds; None for none."""


@dataclass(frozen=True, slots=True)
class TopQuery:
    """The validated query of a top list."""

    kind: Kind
    field: str
    by: By
    start: int
    end: int
    limit: int
    search: str


def top_query_of(request: Request, now: int) -> TopQuery:
    """Read the parameters of a top list; the last hour if no time is given.

    Raises:
        ValidationError: naming the invalid parameter.
    """
    kind = cast("Kind", choice(request, "kind", TOP_KINDS, "pod"))
    start, end = time_range(request, now, 3600)
    return TopQuery(
        kind=kind,
        field=choice(request, "field", FIELD_NAMES[kind], "cpu_mc"),
        by=cast("By", choice(request, "by", TOP_BY, "mean")),
        start=start,
        end=end,
        limit=whole_number(request, "limit", 20, low=1, high=MAX_TOP),
        search=text(request, "q").strip(),
    )


def wants_csv(request: Request) -> bool:
    """Return whether the answer is requested as a CSV file.

    Raises:
        ValidationError: the format is unknown.
    """
    return choice(request, "format", FORMATS, "json") == "csv"


def range_query_of(request: Request, now: int) -> RangeQuery:
    """Read the parameters of a range; the last hour if no time is given.

    Raises:
        ValidationError: naming the invalid parameter.
    """
    key = _key(request, KINDS)
    start, end = time_range(request, now, 3600)
    return RangeQuery(
        key=key,
        field=choice(request, "field", FIELD_NAMES[key.kind]),
        start=start,
        end=end,
        points=whole_number(request, "points", MAX_POINTS, low=2, high=MAX_POINTS),
        compare=OFFSETS[choice(request, "compare", tuple(OFFSETS))]
        if "compare" in request.query_params
        else None,
    )


@dataclass(frozen=True, slots=True)
class RawQuery:
    """The validated query of raw values."""

    key: SeriesKey
    field: str
    start: int
    end: int


def raw_query_of(request: Request, now: int) -> RawQuery:
    """Read the parameters of raw values; the last quarter of an hour if no time is given.

    Raises:
        ValidationError: naming the invalid parameter.
    """
    key = _key(request, RAW_KINDS)
    start, end = time_range(request, now, 900)
    return RawQuery(key, choice(request, "field", FIELD_NAMES[key.kind]), start, end)


def _key(request: Request, kinds: tuple[Kind, ...]) -> SeriesKey:
    kind = cast("Kind", choice(request, "kind", kinds))
    key = SeriesKey(kind, text(request, "ns"), text(request, "name"))
    if (kind == "cluster") == bool(key.name):
        raise ValidationError({"name": ["Give it for every kind but cluster."]})
    if (kind in ("pod", "filesystem")) != bool(key.ns):
        raise ValidationError({"ns": ["Give it for kind=pod and kind=filesystem, only."]})
    return key


def time_range(request: Request, now: int, span_seconds: int) -> tuple[int, int]:
    """Return ``start`` and ``end``; without them the last ``span_seconds``.

    Raises:
        ValidationError: one is not a Unix time, or the range is empty.
    """
    end = whole_number(request, "end", now, low=0, high=_LATEST)
    start = whole_number(request, "start", max(0, end - span_seconds), low=0, high=_LATEST)
    if start >= end:
        raise ValidationError({"end": ["It must be after start."]})
    return start, end


def choice(request: Request, name: str, choices: tuple[str, ...], default: str = "") -> str:
    """Return a parameter that is one of ``choices``; ``default`` if it is not given.

    Raises:
        ValidationError: it is another value, or missing without a default.
    """
    value = request.query_params.get(name, default)
    if value not in choices:
        raise ValidationError({name: [f"Use {', '.join(choices)}."]})
    return value


def text(request: Request, name: str) -> str:
    """Return a parameter as text, "" if it is not given.

    Raises:
        ValidationError: it is longer than any name.
    """
    value = request.query_params.get(name, "")
    if len(value) > _NAME_LENGTH:
        raise ValidationError({name: [f"Use at most {_NAME_LENGTH} characters."]})
    return value


def window_states(request: Request) -> list[str]:
    """Return the requested states of the ledger; [] for all.

    Raises:
        ValidationError: one does not exist.
    """
    states = request.query_params.getlist("state")
    if not set(states) <= set(WINDOW_STATES):
        raise ValidationError({"state": [f"Use {', '.join(WINDOW_STATES)}."]})
    return states
