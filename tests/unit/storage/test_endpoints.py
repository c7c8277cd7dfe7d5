"""The records of webhook endpoints on a Redis inside the process."""

from tests.suites.endpoints import EndpointsSuite


class TestEndpoints(EndpointsSuite):
    """Everything of the suite."""
