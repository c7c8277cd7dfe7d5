from tests.suites.provider import ProviderSuite


class TestStability(ProviderSuite):
    provider = "stability"
    place = "/stability"
    model = "ultra"
    exact_size = False
