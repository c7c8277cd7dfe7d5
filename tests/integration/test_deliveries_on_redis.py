"""The records of deliveries on a real Redis."""

from tests.suites.deliveries import DeliveriesSuite


class TestDeliveriesOnRedis(DeliveriesSuite):
    """Everything of the suite."""
