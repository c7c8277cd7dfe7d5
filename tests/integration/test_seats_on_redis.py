"""Seats on a real Redis."""

from tests.suites.seats import SeatsSuite


class TestSeatsOnRedis(SeatsSuite):
    """Everything of the suite."""
