"""Exports over the API and on pages: who may ask, see and fetch, and downloads that break off."""

from __future__ import annotations

import io
import zipfile
from datetime import UTC, datetime, timedelta

import pytest
from django.urls import reverse
from rest_framework.test import APIClient

from clusters.models import AuditEvent
from metrics.exports import jobs
from metrics.models import Export
from opscenter.core.downloads import byte_range
from tests.factories import api_token
from tests.metrics.deletion.expiring import store_hours

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume async:Warning"),
]
API = "/api/v1/exports/"


@pytest.fixture(autouse=True)
def _own_directory(settings, tmp_path):
    settings.DATA_DIR = tmp_path


@pytest.fixture
def api():
    def of(user, *, read_only: bool = False) -> APIClient:
        client = APIClient(raise_request_exception=False)
        token = api_token(user, read_only=read_only)
        client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
        return client

    return of


def made(target, user, form="parquet") -> Export:
    """Ask for an export and make its file."""
    export = jobs.request(target, form=form, actor=user)
    jobs.claim(datetime.now(UTC))
    jobs.make(export.pk)
    export.refresh_from_db()
    return export


def content(response) -> bytes:
    return b"".join(response)


def test_a_customer_asks_watches_and_fetches_its_own(api, viewer, cluster):
    store_hours(cluster.pk, 0)
    client = api(viewer)
    sent = {"customer_id": str(cluster.customer_id), "format": "csv"}
    begun = client.post(API, sent, format="json")
    assert begun.status_code == 201, begun.content
    assert (begun.json()["state"], begun.json()["requested_by"]) == ("waiting", "viewer")
    one = f"{API}{begun.json()['id']}/"
    assert client.post(API, sent, format="json").status_code == 409
    early = client.get(f"{one}file/")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "conflict")
    jobs.claim(datetime.now(UTC))
    jobs.make(begun.json()["id"])
    ready = client.get(one).json()
    assert (ready["state"], ready["done_ratio"], ready["rows"]) == ("ready", 1.0, 10)
    assert client.get(API).json()["results"] == [ready]
    answer = client.get(f"{one}file/", HTTP_ACCEPT="application/zip")
    assert answer.status_code == 200
    assert answer["content-type"] == "application/zip"
    assert "Northwind-" in answer["content-disposition"]
    whole = content(answer)
    assert len(whole) == ready["size_bytes"] == int(answer["content-length"])
    assert "north-1/node_1m.csv" in zipfile.ZipFile(io.BytesIO(whole)).namelist()
    assert client.delete(one).status_code == 204
    assert client.get(one).status_code == 404
    assert list(AuditEvent.objects.values_list("actor", "action")) == [
        ("viewer", "data.export"), ("viewer", "data.download"), ("viewer", "data.export_delete"),
    ]  # fmt: skip


def test_nobody_else_sees_asks_or_fetches_it(api, admin, viewer, stranger, foreign_cluster):
    store_hours(foreign_cluster.pk, 0)
    for target in (foreign_cluster, foreign_cluster.customer):
        export = made(target, admin)
        for user in (viewer, stranger):
            client = api(user)
            assert client.get(API).json()["results"] == []
            for path in ("", "file/"):
                absent = client.get(f"{API}00000000-0000-4000-8000-000000000000/{path}")
                answer = client.get(f"{API}{export.pk}/{path}")
                assert (answer.status_code, answer.content) == (404, absent.content)
            assert client.delete(f"{API}{export.pk}/").status_code == 404
    client = api(viewer)
    for sent in ({"cluster_id": str(foreign_cluster.pk)},
                 {"customer_id": str(foreign_cluster.customer_id)}):  # fmt: skip
        assert client.post(API, sent | {"format": "csv"}, format="json").status_code == 404


def test_a_user_of_one_cluster_exports_that_and_not_the_customer(
    api, admin, stranger, cluster, customer
):
    from tests.factories import grant

    grant(stranger, "view_cluster", cluster)
    client = api(stranger)
    sent = {"cluster_id": str(cluster.pk), "format": "csv"}
    assert client.post(API, sent, format="json").status_code == 201
    whole = {"customer_id": str(customer.pk), "format": "csv"}
    assert client.post(API, whole, format="json").status_code == 404


@pytest.mark.parametrize(
    "sent",
    [
        {"format": "csv"},
        {"cluster_id": "x", "format": "csv"},
        {"format": "xml", "cluster_id": None},
        {"format": "csv", "start": 9, "end": 9},
    ],
)
def test_what_makes_no_sense_is_refused(api, viewer, cluster, sent):
    if "start" in sent:
        sent = sent | {"cluster_id": str(cluster.pk)}
    assert api(viewer).post(API, sent, format="json").status_code == 400


def test_a_read_only_token_fetches_but_asks_for_nothing(api, auditor, cluster):
    store_hours(cluster.pk, 0)
    export = made(cluster, auditor)
    client = api(auditor, read_only=True)
    assert client.get(f"{API}{export.pk}/file/").status_code == 200
    sent = {"cluster_id": str(cluster.pk), "format": "csv"}
    assert client.post(API, sent, format="json").status_code == 403


def test_a_download_goes_on_where_it_broke_off(api, viewer, cluster):
    store_hours(cluster.pk, 0)
    export = made(cluster, viewer)
    client, url = api(viewer), f"{API}{export.pk}/file/"
    whole = content(client.get(url))
    first = client.get(url, HTTP_RANGE="bytes=0-99")
    rest = client.get(url, HTTP_RANGE="bytes=100-")
    assert (first.status_code, rest.status_code) == (206, 206)
    assert first["content-range"] == f"bytes 0-99/{len(whole)}"
    assert content(first) + content(rest) == whole
    beyond = client.get(url, HTTP_RANGE=f"bytes={len(whole)}-")
    assert (beyond.status_code, beyond["content-range"]) == (416, f"bytes */{len(whole)}")
    assert AuditEvent.objects.filter(action="data.download").count() == 1


@pytest.mark.parametrize(
    "ranges", [[""], ["bytes=1-"], ["bytes=0-"], ["bytes=0-99", "bytes=100-"], ["bytes=0-1,5-6"]]
)
def test_whatever_sends_bytes_is_one_line_in_the_audit_log(api, viewer, cluster, ranges):
    export = made(cluster, viewer)
    client, url = api(viewer), f"{API}{export.pk}/file/"
    for asked in ranges:
        content(client.get(url, headers={"range": asked} if asked else {}))
    line = AuditEvent.objects.get(action="data.download")
    assert (line.actor, line.detail["range"]) == (viewer.username, ranges[0])


def test_what_sends_nothing_is_no_download(api, viewer, cluster):
    export = made(cluster, viewer)
    client, url = api(viewer), f"{API}{export.pk}/file/"
    client.head(url)
    client.get(url, headers={"range": "bytes=999999999-"})
    assert not AuditEvent.objects.filter(action="data.download").exists()


def test_another_user_and_a_later_time_are_downloads_of_their_own(viewer, operator, cluster):
    export = made(cluster, viewer)
    now = datetime.now(UTC)
    jobs.record_download(export, actor=viewer, now=now)
    jobs.record_download(export, actor=viewer, now=now + timedelta(minutes=9))
    jobs.record_download(export, actor=operator, now=now + timedelta(minutes=9))
    jobs.record_download(export, actor=viewer, now=now + timedelta(minutes=11))
    assert AuditEvent.objects.filter(action="data.download").count() == 3


def test_only_who_asked_or_may_act_deletes_an_export(api, client, viewer, operator, cluster):
    theirs, own = made(cluster, operator), made(cluster, viewer)
    refused = api(viewer).delete(f"{API}{theirs.pk}/")
    assert refused.status_code == 403
    assert refused.json()["error"]["message"].startswith("Only operator, who asked for it")
    assert api(viewer).delete(f"{API}{own.pk}/").status_code == 204
    client.force_login(viewer)
    page = client.get(reverse("exports", args=["cluster", cluster.pk])).content.decode()
    assert "Delete" not in page
    client.post(reverse("export_delete", args=[theirs.pk]))
    assert Export.objects.filter(pk=theirs.pk).exists()
    assert api(operator).delete(f"{API}{theirs.pk}/").status_code == 204


def test_a_customers_exports_push_out_none_of_the_staff(viewer, operator, cluster):
    theirs = made(cluster, operator)
    own = [made(cluster, viewer) for _ in range(3)]
    assert set(Export.objects.values_list("pk", flat=True)) == {
        theirs.pk,
        *(one.pk for one in own[1:]),
    }


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("", (0, 10)), ("bytes=0-", (0, 10)), ("bytes=3-5", (3, 6)), ("bytes=3-99", (3, 10)),
        ("bytes=-4", (6, 10)), ("bytes=-99", (0, 10)), ("bytes=-0", None), ("bytes=10-", None),
        ("bytes=5-3", None), ("bytes=0-1,3-4", (0, 10)), ("lines=0-1", (0, 10)),
        ("bytes=-", (0, 10)),
    ],
)  # fmt: skip
def test_one_range_of_bytes_is_understood(asked, span):
    assert byte_range(asked, 10) == span


def test_a_file_that_is_gone_is_said(api, viewer, cluster):
    store_hours(cluster.pk, 0)
    export = made(cluster, viewer)
    jobs.path_of(export).unlink()
    answer = api(viewer).get(f"{API}{export.pk}/file/")
    assert answer.status_code == 404
    assert "ask for a new export" in answer.json()["error"]["message"]


def test_the_pages_ask_show_progress_fetch_and_delete(client, viewer, cluster):
    client.force_login(viewer, backend="django.contrib.auth.backends.ModelBackend")
    store_hours(cluster.pk, 0)
    for which, target in (("cluster", cluster), ("customer", cluster.customer)):
        url = reverse("exports", args=[which, target.pk])
        answer = client.post(url, {"format": "parquet"}, follow=True)
        assert "waiting for a worker" in answer.content.decode()
        assert 'hx-trigger="every 2s"' in answer.content.decode()
        again = client.post(url, {"format": "csv"}, follow=True).content.decode()
        assert "No export was started: an export of it is already running" in again
        export = Export.objects.first()
        Export.objects.update(state="running", done_ratio=0.25, rows=1234, step="pod_1m")
        assert 'aria-valuenow="25"' in client.get(url).content.decode()
        jobs.make(export.pk)
        shown = client.get(url).content.decode()
        assert "every 2s" not in shown
        file = reverse("export_file", args=[export.pk])
        assert file in shown
        assert client.get(file).status_code == 200
        assert client.post(reverse("export_delete", args=[export.pk])).status_code == 302
        assert client.get(file).status_code == 404
    assert client.get(reverse("exports", args=["fleet", cluster.pk])).status_code == 404
