"""InfluxDB 2.x with Telegraf's schema as a source."""
