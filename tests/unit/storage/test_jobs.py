"""The records of jobs on a Redis inside the process."""

from tests.suites.jobs import JobsSuite


class TestJobs(JobsSuite):
    """Everything of the suite."""
