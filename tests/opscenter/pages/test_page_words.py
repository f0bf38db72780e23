"""What pages say, in plain English; with little known: no data yet is neither all well nor zero."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from clusters import services
from clusters.models import ClusterStatus
from metrics.charts.figure import layout
from metrics.charts.panels import panel_of
from metrics.connections.config import read_config, save_source
from metrics.series.rows import MinuteRow, SeriesKey
from metrics.series.windows import Window
from metrics.stores import get_store
from metrics.stores.writer import Batch
from tests.centre import ROOT
from tests.factories import ClusterFactory, healthy
from tests.opscenter.pages.measured import cells, measure, page

pytestmark = pytest.mark.django_db

NOT_SAID = (
    "need somebody", "nobody is needed", "no cluster fits", "fits this search", "and is well",
    "1 nodes are not", "its node is ready", "may not be true any more", "says nothing of",
    "their time far off", "against ours", "complete up to", "waits for the tunnel",
    "is not held up", "no minute was due", "</i>none yet", "not enrolled yet",
    "recorded before the cluster was enrolled", "kept for<", "what it has", "what happens<",
    "everything that is kept", "who asks and who", "opens no tunnel", "go for good", "for good<",
    "while it stands", "limits hold at once", "gone in the last day", "the last to go first",
    "those that run", "as people call it", "whose cluster it is", "makes a new customer",
    "and show the command", "use it if it works", "only test<", "as the agent's list calls it",
    "have a gap where", "changes by itself", "follows by itself", "largest by", "held for<",
    "dragging over a chart zooms", ">to the fleet<", "accounts are made", "from the cluster now",
    "may not do this", "nothing was done", "read no longer", "tested well", "not said",
)  # fmt: skip
"""What a reader stumbles over, in lower case; "<" is the end of an element's text."""

STILL = {"clusters/health.py": {"its node is ready"}}
"""What is still said, by file; it goes from here when it goes from there."""


def visible(path: Path) -> Iterator[str]:
    """Yield the texts of a template, a script or a module that somebody may read on a page."""
    source = path.read_text()
    if path.suffix != ".py":
        yield re.sub(r"\{#.*?#\}|<!--.*?-->|^\s*//.*?$", "", source, flags=re.M)
        return
    tree = ast.parse(source)
    remarks = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in remarks:
            yield str(node.value)


def test_no_page_says_what_a_native_speaker_would_not():
    patterns = ("templates/**/*.html", "static/js/*.js", "agent/**/*.py", "clusters/**/*.py",
                "metrics/**/*.py", "opscenter/**/*.py")  # fmt: skip
    paths = [path for pattern in patterns for path in ROOT.glob(pattern)]
    assert len(paths) > 200
    found = set()
    for path in paths:
        name = str(path.relative_to(ROOT))
        for text in visible(path):
            plain = " ".join(text.lower().split()).replace(" <", "<")
            found |= {
                (name, phrase)
                for phrase in NOT_SAID
                if phrase in plain and phrase not in STILL.get(name, ())
            }
    assert found == set()


@pytest.fixture
def alpha(client, operator):
    client.force_login(operator)
    return ClusterFactory(name="alpha", **healthy(datetime.now(UTC)))


def test_a_cluster_without_data_is_not_called_complete(client, alpha):
    text = page(client, alpha, "tab=data")
    assert "No data yet" in text
    assert "no data expected yet" in text
    assert "Every minute arrived on time" not in text
    measure(alpha, minutes=10)
    end = int(time.time()) // 60 * 60
    text = page(client, alpha, f"tab=data&start={end - 300}&end={end}")
    assert "Every minute arrived on time" in text


def test_a_source_that_reports_no_pods_is_not_shown_as_having_none(client, alpha):
    end = int(time.time()) // 60 * 60
    node = SeriesKey("node", "", "node-1")
    rows = [MinuteRow(end - 60, node, cells("node", cpu_mc=900, ready=1))]
    windows = [Window(end - 60, end, "done", 1, 1, 1, "", "", None)]
    get_store().write(alpha.pk, "agent", Batch(rows, [], windows, end, end))
    ClusterStatus.objects.update(pods=None)
    text = client.get(f"/clusters/{alpha.pk}/nodes/node-1/").content.decode()
    assert "This source does not report pods" in text
    assert "0 pods" not in text
    assert ">Pods</a>" in page(client, alpha, "tab=nodes")


def test_a_clock_that_is_off_is_described_in_words(client, alpha):
    ClusterStatus.objects.update(clock_skew_ms=-90_000)
    for tab in ("data", "tunnel"):
        assert "90 s behind" in page(client, alpha, f"tab={tab}")


def test_the_audit_lines_of_a_cluster_read_as_people_write(client, operator):
    client.force_login(operator)
    cluster = services.create_cluster(
        name="beta", labels={"region": "eu", "tier": "edge"}, customer=None, actor=operator
    )
    text = page(client, cluster, "tab=settings")
    assert "labels: region=eu, tier=edge" in text


def test_an_absolute_range_keeps_the_table_of_nodes_narrow_and_names_both_days(client, alpha):
    measure(alpha)
    text = page(client, alpha, "start=1700000000&end=1700100000")
    assert "<th>CPU, over the range</th>" in text
    assert text.count("2023-11-14 22:13 to 2023-11-16 02:00 UTC</span>") == 3


def test_paper_names_range_zone_and_time_of_printing(client, alpha):
    measure(alpha)
    live = " ".join(page(client, alpha, "range=6h").split())
    paper = live[live.index('<p class="paper">') :].partition("</p>")[0]
    assert "· last 6 h · times in <span data-zone>UTC</span> · printed <span data-printed>" in paper
    fixed = " ".join(page(client, alpha, "start=1700000000&end=1700100000").split())
    paper = fixed[fixed.index('<p class="paper">') :].partition("</p>")[0]
    assert "2023-11-14 22:13 to 2023-11-16 02:00 UTC" in paper


def test_what_is_computed_from_two_measures_is_not_requested_from_the_cluster(client, alpha):
    measure(alpha)
    save_source(alpha, read_config("prometheus"), actor="test")
    text = client.get(f"/clusters/{alpha.pk}/nodes/node-1/?range=1h&raw=1").content.decode()
    assert "/chart/cpu.raw?" in text
    assert "/chart/inodes.raw?" not in text


def chart(client, cluster, panel: str) -> dict:
    url = f"/clusters/{cluster.pk}/chart/{panel}.json?kind=pod&ns=shop&name=cart-1&range=1h"
    return orjson.loads(client.get(url).content)


def test_a_limit_far_above_a_pod_is_given_in_words_and_does_not_flatten_its_line(client, alpha):
    measure(alpha)
    small = chart(client, alpha, "cpu")
    assert (small["capacity"], small["beyond"]) == (None, "its node has 4.00 cores")
    measure(alpha, pod_cpu=900)
    large = chart(client, alpha, "cpu")
    assert (large["capacity"]["name"], large["beyond"]) == ("capacity of node-1", "")


def test_few_restarts_are_counted_one_by_one_on_the_axis(client, alpha):
    measure(alpha)
    axis = chart(client, alpha, "memory")["layout"]["yaxis"]
    assert "dtick" not in axis
    panel = panel_of("pod", "restarts")
    assert layout(panel.unit, few=True)["yaxis"]["dtick"] == 1
    assert layout(panel.unit)["yaxis"]["tickformat"] == ",.3~f"


def test_a_past_of_thousands_of_windows_is_one_row_and_a_small_page(client, alpha):
    end = int(time.time()) // 600 * 600
    windows = [
        Window(at, at + 600, "done", 10, 10, 1, "not_enrolled", "recorded before", end, 3600)
        for at in range(end - 3000 * 600, end, 600)
    ]
    get_store().write(alpha.pk, "agent", Batch(windows=windows, watermark=end, head=end))
    text = page(client, alpha, "tab=data&range=90d")
    assert "<summary>3,000 windows</summary>" in text
    assert "and 2,976 older ones" in text
    assert len(text) < 60_000
