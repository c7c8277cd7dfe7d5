"""The records of tenants and keys on a real Redis."""

from tests.suites.tenants import TenantsSuite


class TestTenantsOnRedis(TenantsSuite):
    """Everything of the suite."""
