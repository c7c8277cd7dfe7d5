from tests.suites.provider import ProviderSuite


class TestXAI(ProviderSuite):
    provider = "xai"
    place = "/xai/v1"
    model = "grok-imagine-image-2.0"
    exact_size = False
    n = 3
