"""The records of jobs on a real Redis."""

from tests.suites.jobs import JobsSuite


class TestJobsOnRedis(JobsSuite):
    """Everything of the suite."""
