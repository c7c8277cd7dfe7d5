"""A worker with leases on a Redis inside the process."""

from tests.suites.lease import LeaseSuite


class TestLease(LeaseSuite):
    """Everything of the suite."""
