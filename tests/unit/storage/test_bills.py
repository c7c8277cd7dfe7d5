"""Bills and budgets on a Redis inside the process."""

from tests.suites.bills import BillSuite


class TestBills(BillSuite):
    """Everything of the suite."""
