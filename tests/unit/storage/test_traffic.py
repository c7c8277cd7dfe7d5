"""The gates on a Redis inside the process."""

from tests.suites.traffic import TrafficSuite


class TestTraffic(TrafficSuite):
    """Everything of the suite."""
