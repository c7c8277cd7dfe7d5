from tests.suites.provider import ProviderSuite


class TestOpenAI(ProviderSuite):
    provider = "openai"
    place = "/openai/v1"
    model = "gpt-image-2"
    n = 3
