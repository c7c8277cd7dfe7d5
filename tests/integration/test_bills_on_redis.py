"""Bills and budgets on a real Redis."""

from tests.suites.bills import BillSuite


class TestBillsOnRedis(BillSuite):
    """Everything of the suite."""
