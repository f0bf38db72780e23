"""The client of one InfluxDB 2, one per process, and its errors as text.

The client is created on the first use after a fork: two processes must not share a pool of
connections. Writes are synchronous requests of prebuilt line protocol; a request that was not
answered with 204 raises. Nothing is retried here: the next pull does that.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.bucket import Bucket
from influxdb_client.domain.bucket_retention_rules import BucketRetentionRules
from influxdb_client.domain.delete_predicate_request import DeletePredicateRequest
from influxdb_client.domain.dialect import Dialect
from influxdb_client.domain.write_precision import WritePrecision
from influxdb_client.rest import ApiException
from influxdb_client.service.delete_service import DeleteService
from urllib3.exceptions import HTTPError

from metrics.stores.errors import StoreError
from opscenter.core.text import iso_utc

LINES_IN_A_REQUEST = 5_000
TIMEOUT_MS = 30_000
PING_MS = 3_000
MAX_REASON = 300

Param = str | int


@dataclass(frozen=True, slots=True)
class Server:
    """The address and credentials of an InfluxDB."""

    url: str
    org: str
    token: str


class Influx:
    """One InfluxDB; safe to share between threads, and across a fork."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._lock = threading.Lock()
        self._client: InfluxDBClient | None = None
        self._pid = 0

    def write(self, bucket: str, lines: Sequence[bytes]) -> None:
        """Write lines of line protocol with times in seconds; all are stored on return.

        Raises:
            StoreError: some may be stored: write all of them again.
        """
        for at in range(0, len(lines), LINES_IN_A_REQUEST):
            body = b"\n".join(lines[at : at + LINES_IN_A_REQUEST])
            with self.translated(bucket):
                api = self._api.write_api(write_options=SYNCHRONOUS)
                # Its constants are strings, despite the annotation.
                api.write(bucket, self.server.org, body, WritePrecision.S)  # type: ignore[arg-type]

    @contextmanager
    def query(self, flux: str, params: Mapping[str, Param], bucket: str = "") -> Iterator[Any]:
        """Yield the answer to a Flux query as a stream of bytes: CSV with a header, no annotations.

        Args:
            flux: the query; names in it that are keys of ``params`` stand for these values.
            params: parameters, bound as Flux options, so that no value can change the query.
            bucket: the bucket's name, for the query and for errors.

        Raises:
            StoreError: the query was refused, or the answer was cut off.
        """
        dialect = Dialect(header=True, delimiter=",", annotations=[])
        with self.translated(bucket):
            answer = self._api.query_api().query_raw(
                flux, self.server.org, dialect, params={"bucket": bucket, **params}
            )
            try:
                yield answer
            finally:
                answer.close()

    def delete(self, bucket: str, predicate: str, start: int, end: int) -> None:
        """Delete the points of ``[start, end]`` that match; the bucket must exist.

        Raises:
            StoreError: nothing or only a part was deleted.
        """
        request = DeletePredicateRequest(
            start=iso_utc(start), stop=iso_utc(end), predicate=predicate
        )
        with self.translated(bucket):
            DeleteService(self._api.api_client).post_delete(
                delete_predicate_request=request, bucket=bucket, org=self.server.org
            )

    def buckets(self) -> dict[str, Bucket]:
        """Return the organisation's buckets by name."""
        found: dict[str, Bucket] = {}
        with self.translated():
            for bucket in self._api.buckets_api().find_buckets_iter(org=self.server.org, limit=100):
                found[bucket.name] = bucket
        return found

    def make_bucket(
        self, name: str, seconds: int, shard_seconds: int, *, description: str = ""
    ) -> None:
        """Create a bucket that keeps points for ``seconds`` (0: forever).

        Args:
            name: its name.
            seconds: how long it keeps points.
            shard_seconds: width of its shard groups; 0 for InfluxDB's own choice.
            description: a text that it shows.
        """
        rule = BucketRetentionRules(
            type="expire", every_seconds=seconds, shard_group_duration_seconds=shard_seconds or None
        )
        with self.translated(name):
            try:
                self._api.buckets_api().create_bucket(
                    bucket_name=name,
                    retention_rules=[rule],
                    description=description or None,
                    org=self.server.org,
                )
            except ApiException as exc:
                if exc.status != 422:  # another process was quicker
                    raise

    def lengthen_bucket(self, bucket: Bucket, seconds: int) -> None:
        """Let a bucket keep its points for longer."""
        bucket.retention_rules = [BucketRetentionRules(type="expire", every_seconds=seconds)]
        with self.translated(bucket.name):
            self._api.buckets_api().update_bucket(bucket)

    def drop_bucket(self, bucket: Bucket) -> None:
        """Delete a bucket and its points."""
        with self.translated(bucket.name):
            self._api.buckets_api().delete_bucket(bucket)

    def ping(self) -> None:
        """Check within seconds that the server answers and accepts the token and organisation."""
        server = self.server
        with (
            self.translated(),
            InfluxDBClient(server.url, server.token, timeout=PING_MS) as client,
        ):
            if not client.organizations_api().find_organizations(org=server.org):
                msg = f"InfluxDB at {server.url} has no organisation {server.org}"
                raise StoreError(msg)

    def close(self) -> None:
        """Close this process's connections; a later call opens new ones."""
        with self._lock:
            if self._client is not None and self._pid == os.getpid():
                self._client.close()
            self._client = None

    @property
    def _api(self) -> InfluxDBClient:
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                self._client = InfluxDBClient(
                    self.server.url,
                    self.server.token,
                    org=self.server.org,
                    timeout=TIMEOUT_MS,
                    connection_pool_maxsize=32,
                )
                self._pid = os.getpid()
            return self._client

    @contextmanager
    def translated(self, bucket: str = "") -> Iterator[None]:
        """Turn the errors of the client and its connections into a :class:`StoreError`."""
        try:
            yield
        except ApiException as exc:
            raise StoreError(self._refusal(exc, bucket)) from exc
        except (HTTPError, OSError) as exc:
            reason = str(getattr(exc, "reason", None) or exc)[:MAX_REASON]
            msg = f"InfluxDB at {self.server.url} does not answer: {reason}"
            raise StoreError(msg) from exc

    def _refusal(self, exc: ApiException, bucket: str) -> str:
        reason = _message(exc.body)
        where = f"InfluxDB at {self.server.url}"
        if exc.status == 401:
            return f"{where} refuses the token (401): check INFLUXDB_TOKEN"
        if exc.status == 403:
            return f"{where}: the token is not allowed to do this (403): {reason}"
        if exc.status == 404 and "bucket" in reason.lower():
            return f"{where} has no bucket {bucket} (404): {reason}"
        if exc.status == 404:
            return f"{where}: not found (404), check INFLUXDB_ORG and INFLUXDB_URL: {reason}"
        if exc.status == 422:
            return f"{where} refused points for bucket {bucket} (422): {reason}"
        if "no space left on device" in reason:
            return f"the disk of {where} is full ({exc.status}): {reason}"
        return f"{where} answered {exc.status} for bucket {bucket}: {reason}"


def _message(body: object) -> str:
    """Return the message of an error's body, in one line."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict):
        text = str(found.get("message") or found.get("error") or text)
    return " ".join(text.split())[:MAX_REASON] or "no reason given"
