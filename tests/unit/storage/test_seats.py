"""Seats on a Redis inside the process."""

from tests.suites.seats import SeatsSuite


class TestSeats(SeatsSuite):
    """Everything of the suite."""
