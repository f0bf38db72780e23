"""The metric store in InfluxDB 2.x, with its ledger in Django's database."""
