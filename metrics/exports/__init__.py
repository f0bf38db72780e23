"""All that is kept of one customer or cluster, as Parquet or CSV, in bounded memory."""
