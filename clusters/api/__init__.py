"""REST endpoints of clusters, their tokens and their enrolment."""
