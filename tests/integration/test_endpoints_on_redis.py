"""The records of webhook endpoints on a real Redis."""

from tests.suites.endpoints import EndpointsSuite


class TestEndpointsOnRedis(EndpointsSuite):
    """Everything of the suite."""
