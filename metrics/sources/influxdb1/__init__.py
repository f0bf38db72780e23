"""InfluxDB 1.x with Heapster's or Telegraf's schema as a source."""
