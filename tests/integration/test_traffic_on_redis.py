"""The gates on a real Redis."""

from tests.suites.traffic import TrafficSuite


class TestTrafficOnRedis(TrafficSuite):
    """Everything of the suite."""
