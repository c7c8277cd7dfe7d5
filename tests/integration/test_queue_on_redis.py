"""The queues on a real Redis."""

from tests.suites.queue import QueueSuite


class TestQueueOnRedis(QueueSuite):
    """Everything of the suite."""
