from tests.suites.provider import ProviderSuite


class TestAutomatic1111(ProviderSuite):
    provider = "automatic1111"
    place = "/automatic1111"
    model = "checkpoint"
    n = 3
    moderates = False
    refuses_output = False
