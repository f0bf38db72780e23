"""From the schedule to the ledger: requesting data from clusters and writing it."""
