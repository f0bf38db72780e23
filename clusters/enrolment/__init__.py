"""A cluster's enrolment, from a join token to its first data."""
