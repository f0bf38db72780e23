"""The quick JSON column reads what Django's writes, and is the same to migrations."""

from __future__ import annotations

import pytest
from django.db import connection, models
from django.db.models import F, Value
from django.db.models.fields.json import KeyTransform

from clusters.models import Cluster
from opscenter.core.json_field import QuickJSONField
from tests.factories import ClusterFactory


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value",
    [{}, [], {"a": 'ü"<\\'}, [1, None, 2.5, True, {"b": []}], {"n": -(2**63)}],
)
def test_what_is_stored_is_read_as_it_was(value):
    cluster = ClusterFactory(labels=value)
    assert Cluster.objects.values_list("labels", flat=True).get(pk=cluster.pk) == value


@pytest.mark.django_db
def test_null_is_none_and_a_part_of_a_value_is_read_too():
    ClusterFactory(labels={"text": "five", "number": 5})
    parts = Cluster.objects.annotate(
        text=KeyTransform("text", F("labels")), number=KeyTransform("number", F("labels"))
    )
    assert parts.values_list("text", "number").get() == ("five", 5)
    none = Cluster.objects.annotate(none=Value(None, QuickJSONField()))
    assert none.values_list("none", flat=True).get() is None


def test_what_the_quick_parser_refuses_is_left_to_the_usual_one():
    field, usual = QuickJSONField(), models.JSONField()
    for text in ("[NaN]", '"\\ud800"', "not JSON"):
        expected = usual.from_db_value(text, F("labels"), connection)
        assert repr(field.from_db_value(text, F("labels"), connection)) == repr(expected)


def test_migrations_see_a_usual_json_field():
    usual = models.JSONField(default=dict, blank=True)
    assert QuickJSONField(default=dict, blank=True).deconstruct()[1:] == usual.deconstruct()[1:]
