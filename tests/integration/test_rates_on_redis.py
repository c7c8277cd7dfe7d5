"""Rates on a real Redis."""

from tests.suites.rates import RatesSuite


class TestRatesOnRedis(RatesSuite):
    """Everything of the suite."""
