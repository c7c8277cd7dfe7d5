"""Listening to jobs on a Redis inside the process."""

from tests.suites.changes import ChangesSuite


class TestChanges(ChangesSuite):
    """Everything of the suite."""
