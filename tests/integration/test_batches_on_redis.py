"""The records of batches on a real Redis."""

from tests.suites.batches import BatchesSuite


class TestBatchesOnRedis(BatchesSuite):
    """On redis-server."""
