"""The records of deliveries on a Redis inside the process."""

from tests.suites.deliveries import DeliveriesSuite


class TestDeliveries(DeliveriesSuite):
    """Everything of the suite."""
