"""The records of batches on the Redis inside this process."""

from tests.suites.batches import BatchesSuite


class TestBatches(BatchesSuite):
    """On fakeredis."""
