"""The queues on a Redis inside the process."""

from tests.suites.queue import QueueSuite


class TestQueue(QueueSuite):
    """Everything of the suite."""
