"""One pure function decides the health of a cluster; every count on every page comes from it."""
