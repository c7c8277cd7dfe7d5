"""Rates on a Redis inside the process."""

import math
import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.rate import Rate
from storage.rates import Rates
from storage.redis_client import Commands
from tests.suites.rates import RatesSuite, pass_time


class TestRates(RatesSuite):
    """Everything of the suite."""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    per_minute=st.integers(1, 30),
    pauses=st.lists(st.floats(0, 40), min_size=1, max_size=40),
)
async def test_no_span_sees_more_than_its_share(
    commands: Commands, per_minute: int, pauses: list[float]
) -> None:
    """Never more than a minute's requests and what is earned in the span, for each span."""
    await commands.execute("FLUSHALL")
    rates, rate = Rates(commands), Rate("tenant", per_minute)
    passed_at: list[float] = []
    passed = 0.0
    for pause in pauses:
        await pass_time(commands, pause, rate)
        passed += pause
        rulings = [await rates.take("acme", [rate]) for _ in range(3)]
        moment = passed + time.time()
        passed_at += [moment for ruling in rulings if ruling.wait == 0]
    for first, start in enumerate(passed_at):
        for count, end in enumerate(passed_at[first:], start=1):
            earned = (end - start + 0.01) * per_minute / 60
            assert count <= per_minute + math.ceil(earned)
