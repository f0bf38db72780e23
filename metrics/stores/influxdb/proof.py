"""The proof that a bucket takes writes: a point, written and read again."""

from __future__ import annotations

from metrics.stores.errors import StoreError
from metrics.stores.influxdb.client import Influx
from metrics.stores.influxdb.flux import Query, records, whole

_MEASUREMENT = "write_check"
_SLOT_SECONDS = 3600  # one point an hour stays, which expires as the bucket's rows do


def prove_writable(influx: Influx, bucket: str, now: int) -> None:
    """Write the time into a bucket, as pulls write their points, and read it.

    Args:
        influx: the InfluxDB.
        bucket: the bucket's name.
        now: Unix time in seconds.

    Raises:
        StoreError: the bucket takes no points, or does not return them.
    """
    slot = now - now % _SLOT_SECONDS
    influx.write(bucket, [f"{_MEASUREMENT} at={now}i {slot}".encode()])
    query = Query(slot, slot + 1).where("_measurement", _MEASUREMENT).keep("_value")
    found = [
        whole(influx, bucket, record[header["_value"]])
        for header, record in records(influx, bucket, query)
    ]
    if max(found, default=0) < now:
        msg = f"bucket {bucket} of InfluxDB at {influx.server.url} does not return what was written"
        raise StoreError(msg)
