"""Listening to jobs on a real Redis."""

from tests.suites.changes import ChangesSuite


class TestChangesOnRedis(ChangesSuite):
    """Everything of the suite."""
