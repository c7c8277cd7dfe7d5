"""The log of deliveries: what a page costs, which no clock has to tell."""

from typing import Any

from storage.deliveries import Deliveries
from storage.delivery_log import DeliveryLog, Wanted
from storage.job import JobId
from storage.line import Argument
from storage.redis_client import Commands
from tests.samples import NOW
from tests.suites.deliveries import a_delivery


class Watched(Commands):
    """Keeps what scripts answered."""

    def __init__(self, commands: Commands) -> None:
        super().__init__(commands.redis)
        self.answers: list[Any] = []

    async def eval(
        self, script: str, keys: list[str], args: list[Argument], *, takes_in: bool = False
    ) -> Any:
        self.answers.append(await super().eval(script, keys, args, takes_in=takes_in))
        return self.answers[-1]


async def filled(commands: Commands, count: int) -> None:
    """Owe many deliveries, the first of them of another job."""
    owed = [
        a_delivery(f"{at:04}", created_at=NOW + at, job_id=JobId("job_2" if at == 0 else "job_1"))
        for at in range(count)
    ]
    for first in range(0, count, 100):
        await Deliveries(commands).owe("acme", owed[first : first + 100])


async def test_only_what_is_wanted_is_moved_out_of_redis(commands: Commands) -> None:
    await filled(commands, 700)
    watched = Watched(commands)
    log = DeliveryLog(watched)
    ids, following = await log.page(
        "acme", Wanted(job_id="job_2"), limit=20, after=None, newest_first=True
    )
    assert (ids, following) == (["msg_0000"], None)
    ((pending, *_),) = watched.answers
    looked_at, _, _, found = pending
    assert (looked_at, len(found)) == (700, 2)


async def test_a_page_without_a_filter_looks_at_one_entry_more_than_it_shows(
    commands: Commands,
) -> None:
    await filled(commands, 300)
    watched = Watched(commands)
    ids, following = await DeliveryLog(watched).page(
        "acme", Wanted(), limit=20, after=None, newest_first=True
    )
    assert len(ids) == 20
    assert following is not None
    assert [pending[0] for pending, *_ in watched.answers] == [21]
