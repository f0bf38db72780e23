"""Prometheus' read API over our numbers, for Grafana and other clients of Prometheus.

A query passes these stages, each a module: :mod:`language` (text to our own small tree),
:mod:`inventory` (which series fit), :mod:`sampling` (stored buckets onto the query's grid),
:mod:`evaluation` (sums, tops, groups) and :mod:`views` (HTTP, in Prometheus' own shape).
``docs/grafana.md`` says what is supported and what a value means.
"""
