"""The records of tenants and keys on a Redis inside the process."""

from tests.suites.tenants import TenantsSuite


class TestTenants(TenantsSuite):
    """Everything of the suite."""
