"""The declaration of a cluster's numbers, and the code that cannot follow it automatically."""

from __future__ import annotations

from dataclasses import fields

import pytest
from django.db import models

from clusters.models import ClusterStatus
from clusters.selectors import ClusterOverview
from clusters.status_numbers import NUMBERS, StatusNumbers, known_numbers
from opscenter.pages.fleet_columns import FLEET_COLUMNS

COLUMNS = {
    "count": models.PositiveIntegerField,
    "millicores": models.BigIntegerField,
    "bytes": models.BigIntegerField,
    "0..1": models.FloatField,
    "permille": models.JSONField,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_the_status_row_has_a_column_for_every_number(name):
    column, default = ClusterStatus._meta.get_field(name), getattr(StatusNumbers(), name)
    several = isinstance(default, tuple)
    if NUMBERS[name].unit == "name":
        assert isinstance(column, models.JSONField if several else models.CharField)
    else:
        assert isinstance(column, COLUMNS[NUMBERS[name].unit])
    assert column.null is (default is None)
    assert column.get_default() == (list(default) if several else default)


def test_lists_show_every_column_of_the_status_row():
    stored = {column.name for column in ClusterStatus._meta.concrete_fields}
    shown = {field.name for field in fields(ClusterOverview)}
    assert stored - shown == {
        "cluster", "state", "since", "was", "reason", "findings", "conditions", "tunnel_up",
        "history_day", "stock",
    }  # fmt: skip


def test_what_is_null_takes_its_default_and_zero_stays():
    row = dict.fromkeys(NUMBERS) | {"pods": 0, "mem_ws": 7}
    known = known_numbers(row)
    assert (known["pods"], known["mem_ws"], known["cpu_mc"], known["fs_worst_name"]) == (
        0, 7, None, "",
    )  # fmt: skip
    assert StatusNumbers(**known) == StatusNumbers(pods=0, mem_ws=7)


def test_every_column_of_the_fleets_table_shows_something_of_a_cluster():
    for column in FLEET_COLUMNS:
        assert hasattr(ClusterOverview, column.number)
        assert column.cell != "amount" or column.unit


def test_no_two_numbers_have_one_name_in_the_api():
    names = [number.api for number in NUMBERS.values() if number.api]
    assert len(set(names)) == len(names)
