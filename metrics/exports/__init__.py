"""Exports of all stored data of one customer or cluster, as Parquet or CSV, in bounded memory."""
