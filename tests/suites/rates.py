"""What rates must show on every Redis; a subclass gives the fixture `commands`.

Redis's own clock counts, and nobody can turn it. Time is passed instead by moving what is on record
into the past.
"""

import asyncio
from itertools import pairwise

import pytest

from storage import redis_keys
from storage.rate import Rate, Ruling
from storage.rates import Rates
from storage.redis_client import Commands


ACME = Rate("tenant", 60)


async def pass_time(commands: Commands, seconds: float, *rates: Rate) -> None:
    for rate in rates:
        key = redis_keys.rate("acme", f"{rate.name}:{rate.counter}")
        moment = await commands.execute("GET", key)
        if moment is not None:
            moved = float(moment) - seconds * 1e6
            await commands.execute("SET", key, f"{moved:.0f}")


async def take_until_refused(rates: Rates, rate: Rate) -> tuple[int, Ruling]:
    for count in range(rate.per_minute + 50):
        ruling = await rates.take("acme", [rate])
        if ruling.wait:
            return count, ruling
    raise AssertionError("it is never refused")


class RatesSuite:
    @pytest.fixture
    def rates(self, commands: Commands) -> Rates:
        return Rates(commands)

    async def test_without_rates_nothing_is_asked(self) -> None:
        class Mute(Commands):
            def __init__(self) -> None:
                pass

        assert await Rates(Mute()).take("acme", ()) == Ruling(0.0, ())

    async def test_a_whole_minutes_requests_may_come_at_once(self, rates: Rates) -> None:
        count, _ = await take_until_refused(rates, ACME)
        assert count in {60, 61}  # one may be earned meanwhile

    async def test_where_the_caller_stands_is_told(self, rates: Rates) -> None:
        first = await rates.take("acme", [ACME])
        second = await rates.take("acme", [ACME])
        assert [ruling.standings[0].remaining for ruling in (first, second)] == [59, 58]
        assert 1.5 < second.standings[0].reset <= 2.0
        assert second.policy == '"tenant";q=60;w=60'
        assert second.state == '"tenant";r=58;t=2'

    async def test_who_waits_as_told_passes(self, rates: Rates, commands: Commands) -> None:
        slow = Rate("tenant", 2)
        _, refused = await take_until_refused(rates, slow)
        assert 0 < refused.wait <= 30
        assert refused.standings[0].remaining == 0
        await pass_time(commands, refused.wait, slow)
        assert (await rates.take("acme", [slow])).wait == 0

    async def test_who_comes_earlier_does_not(self, rates: Rates, commands: Commands) -> None:
        slow = Rate("tenant", 2)
        _, refused = await take_until_refused(rates, slow)
        await pass_time(commands, refused.wait - 1, slow)
        assert (await rates.take("acme", [slow])).wait > 0

    async def test_what_is_refused_uses_nothing_up(self, rates: Rates) -> None:
        slow = Rate("tenant", 2)
        _, refused = await take_until_refused(rates, slow)
        waits = [refused.wait, *[(await rates.take("acme", [slow])).wait for _ in range(20)]]
        assert all(later <= earlier for earlier, later in pairwise(waits))

    async def test_one_rate_that_refuses_keeps_the_other_whole(
        self, rates: Rates, commands: Commands
    ) -> None:
        wide, narrow = Rate("tenant", 100), Rate("key", 1, "k1")
        assert (await rates.take("acme", [wide, narrow])).wait == 0
        refused = [await rates.take("acme", [wide, narrow]) for _ in range(5)]
        assert all(ruling.wait > 0 for ruling in refused)
        assert refused[-1].standings[0].remaining >= 99
        assert refused[-1].state.endswith('"key";r=0;t=60')

    async def test_keys_of_one_tenant_are_counted_apart(self, rates: Rates) -> None:
        one, other = Rate("key", 1, "k1"), Rate("key", 1, "k2")
        assert (await rates.take("acme", [one])).wait == 0
        assert (await rates.take("acme", [other])).wait == 0
        assert (await rates.take("globex", [one])).wait == 0
        assert (await rates.take("acme", [one])).wait > 0

    async def test_fifty_at_once_get_no_more_than_one_after_another(self, rates: Rates) -> None:
        rulings = await asyncio.gather(
            *(rates.take("acme", [Rate("tenant", 20)]) for _ in range(50))
        )
        assert sum(ruling.wait == 0 for ruling in rulings) == 20

    async def test_nothing_is_kept_of_a_tenant_that_rests(
        self, rates: Rates, commands: Commands
    ) -> None:
        await rates.take("acme", [ACME])
        left = await commands.execute("PTTL", redis_keys.rate("acme", "tenant:"))
        assert 0 < left <= 1000
