"""From the schedule to the ledger: all that asks clusters and writes what came."""
