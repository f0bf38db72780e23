"""Prometheus' read API for our metrics, for Grafana and other clients of Prometheus.

A query passes these stages, each a module: :mod:`promql` (text to our own small tree),
:mod:`inventory` (the matching series), :mod:`sampling` (stored buckets onto the query's grid),
:mod:`evaluation` (sums, tops, groups) and :mod:`views` (HTTP, in Prometheus' own format).
``docs/grafana.md`` describes what is supported and what a value means.
"""
