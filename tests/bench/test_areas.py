"""Every area of ``make bench`` can be run: a change elsewhere does not leave one behind."""

from __future__ import annotations

import importlib
import json

import pytest

from tests.bench.__main__ import AREAS
from tests.bench.report import Report


@pytest.mark.parametrize("area", AREAS)
def test_an_area_can_be_imported(area):
    assert callable(importlib.import_module(f"tests.bench.{area}").run)


def test_figures_are_reported_as_a_table_and_as_json_with_reasons_for_missing_ones(tmp_path):
    report = Report()
    report.compare("area", "speed", "rows/s", [20.0, 40.0], "floor", [10.0, 10.0], "of two")
    report.leave_out("area", "a peer", "it is not installed")
    report.write(tmp_path / "bench.json")
    measures = json.loads((tmp_path / "bench.json").read_text())["measures"]
    assert [(m["value"], m["ratio"], m["baseline_value"]) for m in measures] == [
        (30.0, 3.0, 10.0), (None, None, None),
    ]  # fmt: skip
    for text in (report.table(), report.markdown()):
        assert "30 rows/s" in " ".join(text.split())
        assert "3.00 x floor (10)" in text
        assert "not measured: it is not installed" in text
