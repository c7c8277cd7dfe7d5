"""What the records of webhook endpoints must show on every Redis; a subclass gives `commands`."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from storage import redis_keys
from storage.delivery import message_to
from storage.endpoint import MOST_ENDPOINTS, DisabledReason
from storage.endpoints import BELIEVED, Endpoints, KnownReceivers, new_endpoint_id
from storage.errors import Error, Invalid, Unavailable
from storage.event import ENDINGS
from storage.jobs import Jobs
from storage.keyring import Keyring
from storage.line import Argument
from storage.outbox import new_delivery_id
from storage.redis_client import Commands
from storage.settings import RetentionSettings
from storage.vault import Vault
from tests.doubles import Clock
from tests.owed import owed
from tests.samples import NOW, a_job, an_endpoint


VAULT = Vault(b"a secret of thirty-two letters or more")


class EndpointsSuite:
    @pytest.fixture
    def endpoints(self, commands: Commands) -> Endpoints:
        return Endpoints(commands)

    # -- the records -------------------------------------------------------------------------------

    async def test_an_endpoint_is_found_as_it_was_added(self, endpoints: Endpoints) -> None:
        endpoint = await endpoints.add(an_endpoint())
        assert await endpoints.get("acme", endpoint.id) == endpoint

    @pytest.mark.parametrize("name", ["we_0", "generation", "own", ""])
    async def test_what_was_never_added_is_not_found(self, endpoints: Endpoints, name: str) -> None:
        await endpoints.add(an_endpoint())
        await endpoints.own_or("acme", a_keyring)
        assert await endpoints.get("acme", name) is None

    async def test_only_its_own_tenant_gets_an_endpoint(self, endpoints: Endpoints) -> None:
        endpoint = await endpoints.add(an_endpoint())
        assert await endpoints.get("globex", endpoint.id) is None
        assert await endpoints.all("globex") == ()

    async def test_endpoints_are_listed_the_oldest_first(self, endpoints: Endpoints) -> None:
        for at in (2, 0, 1):
            await endpoints.add(an_endpoint(f"we_{at}", created_at=NOW + at))
        await endpoints.own_or("acme", a_keyring)
        assert [one.id for one in await endpoints.all("acme")] == ["we_0", "we_1", "we_2"]

    async def test_adding_twice_is_harmless(self, endpoints: Endpoints) -> None:
        await endpoints.add(an_endpoint())
        await endpoints.add(an_endpoint())
        assert len(await endpoints.all("acme")) == 1

    async def test_a_tenant_has_only_so_many(self, endpoints: Endpoints) -> None:
        await endpoints.own_or("acme", a_keyring)
        for at in range(MOST_ENDPOINTS):
            await endpoints.add(an_endpoint(f"we_{at}"))
        with pytest.raises(Invalid):
            await endpoints.add(an_endpoint("we_more"))
        await endpoints.add(an_endpoint("we_more", tenant="globex"))

    async def test_a_swap_is_read_back(self, endpoints: Endpoints) -> None:
        endpoint = await endpoints.add(an_endpoint())
        written = await endpoints.swap(endpoint, replace(endpoint, description="ours"))
        assert written is not None
        assert (written.version, written.description) == (1, "ours")
        assert await endpoints.get("acme", endpoint.id) == written

    async def test_of_many_swaps_one_wins(self, endpoints: Endpoints) -> None:
        endpoint = await endpoints.add(an_endpoint())
        written = await asyncio.gather(
            *(endpoints.swap(endpoint, replace(endpoint, description=f"{at}")) for at in range(20))
        )
        assert sum(one is not None for one in written) == 1

    async def test_saying_a_swap_twice_is_harmless(self, endpoints: Endpoints) -> None:
        endpoint = await endpoints.add(an_endpoint())
        changed = replace(endpoint, description="ours")
        assert await endpoints.swap(endpoint, changed) == await endpoints.swap(endpoint, changed)

    async def test_a_removed_endpoint_leaves_nothing(
        self, endpoints: Endpoints, commands: Commands
    ) -> None:
        endpoint = await endpoints.add(an_endpoint())
        assert await endpoints.remove(endpoint)
        assert await endpoints.remove(endpoint), "saying it twice is harmless"
        assert await endpoints.get("acme", endpoint.id) is None
        left = {key.decode() for key in await commands.execute("KEYS", "*")}
        assert left == {redis_keys.endpoints_of("acme"), redis_keys.flows(redis_keys.IMAGE_QUEUE)}
        assert await commands.execute("HKEYS", redis_keys.endpoints_of("acme")) == [b"generation"]

    async def test_an_endpoint_that_somebody_else_wrote_is_not_removed(
        self, endpoints: Endpoints
    ) -> None:
        endpoint = await endpoints.add(an_endpoint())
        await endpoints.swap(endpoint, replace(endpoint, description="ours"))
        assert not await endpoints.remove(endpoint)

    async def test_what_is_told_of_a_change_is_owed_with_it_or_not_at_all(
        self, endpoints: Endpoints, commands: Commands
    ) -> None:
        gone, other = await endpoints.add(an_endpoint()), await endpoints.add(an_endpoint("we_2"))
        disabled = gone.disabled(DisabledReason.GONE, NOW)
        notice = message_to(other, "webhook_endpoint.disabled", new_delivery_id(), NOW, data="{}")
        assert await endpoints.swap(gone, disabled, owing=[notice]) is not None
        assert await owed(commands) == [notice]
        again = replace(notice, id=new_delivery_id())
        assert await endpoints.swap(gone, replace(gone, url="x"), owing=[again]) is None
        assert await owed(commands) == [notice]

    async def test_a_record_that_cannot_be_read_says_nothing_of_what_it_holds(
        self, endpoints: Endpoints, commands: Commands
    ) -> None:
        key = redis_keys.endpoints_of("acme")
        await commands.execute("HSET", key, "we_1", '{"url": "https://secret"}')
        with pytest.raises(Error) as refusal:
            await endpoints.get("acme", "we_1")
        assert "secret" not in str(refusal.value)

    def test_ids_do_not_repeat(self) -> None:
        assert len({new_endpoint_id() for _ in range(1000)}) == 1000

    # -- keys --------------------------------------------------------------------------------------

    async def test_no_secret_is_kept_as_it_is(
        self, endpoints: Endpoints, commands: Commands
    ) -> None:
        keyring, made = VAULT.new_keyring(NOW)
        await endpoints.add(an_endpoint(keyring=keyring))
        kept = b"".join(await commands.execute("HVALS", redis_keys.endpoints_of("acme")))
        assert made.text.removeprefix("whsec_").encode() not in kept
        assert made.seed not in kept

    async def test_public_keys_are_found_by_their_keyring_alone(self, endpoints: Endpoints) -> None:
        keyring, _ = VAULT.new_keyring(NOW)
        endpoint = await endpoints.add(an_endpoint(keyring=keyring))
        fresh, _ = VAULT.new_key(NOW)
        rotated = replace(endpoint, keyring=keyring.rotated(fresh, NOW, overlap=100))
        await endpoints.swap(endpoint, rotated)
        keys = await endpoints.public_keys(keyring.id)
        assert keys is not None
        assert [(key["id"], key["x"], key["expires_at"]) for key in keys] == [
            (fresh.id, fresh.public, None),
            (keyring.current.id, keyring.current.public, NOW + 100),
        ]
        assert await endpoints.public_keys("wr_0") is None

    async def test_many_who_ask_at_once_get_one_keyring(self, endpoints: Endpoints) -> None:
        found = await asyncio.gather(*(endpoints.own_or("acme", a_keyring) for _ in range(20)))
        assert len({one.keyring.id for one in found}) == 1
        assert await endpoints.public_keys(found[0].keyring.id) is not None

    async def test_each_tenant_has_a_keyring_of_its_own(self, endpoints: Endpoints) -> None:
        mine, theirs = [await endpoints.own_or(name, a_keyring) for name in ("acme", "globex")]
        assert mine.keyring != theirs.keyring

    async def test_of_many_who_rotate_one_wins(self, endpoints: Endpoints) -> None:
        own = await endpoints.own_or("acme", a_keyring)
        written = await asyncio.gather(
            *(endpoints.swap_own(own, replace(own, keyring=a_keyring())) for _ in range(10))
        )
        assert sum(one is not None for one in written) == 1

    # -- who is told -------------------------------------------------------------------------------

    async def test_what_is_known_is_believed_for_five_seconds(
        self, endpoints: Endpoints, commands: Commands
    ) -> None:
        clock = Clock(0.0)
        known = KnownReceivers(commands, clock=clock)
        assert (await known.of("acme")).endpoints == ()
        await endpoints.add(an_endpoint())
        clock.advance(BELIEVED - 0.1)
        assert (await known.of("acme")).endpoints == ()
        clock.advance(0.1)
        assert len((await known.of("acme")).endpoints) == 1

    async def test_many_who_ask_at_once_cause_one_read(self, commands: Commands) -> None:
        class Counting(Commands):
            reads = 0

            async def execute(self, *command: Argument) -> Any:
                self.reads += 1
                return await commands.execute(*command)

        counting = Counting(commands.redis)
        known = KnownReceivers(counting)
        await asyncio.gather(*(known.of("acme") for _ in range(50)))
        assert counting.reads == 1

    async def test_an_outage_is_told_to_all_who_ask_and_remembered_by_nobody(
        self, commands: Commands
    ) -> None:
        class Away(Commands):
            away = True

            async def execute(self, *command: Argument) -> Any:
                if self.away:
                    raise Unavailable("The job store does not answer.")
                return await commands.execute(*command)

        away = Away(commands.redis)
        known = KnownReceivers(away)
        answers = await asyncio.gather(
            *(known.of("acme") for _ in range(5)), return_exceptions=True
        )
        assert all(isinstance(one, Unavailable) for one in answers)
        away.away = False
        assert (await known.of("acme")).endpoints == ()

    async def test_who_has_seen_more_is_not_told_less(
        self, endpoints: Endpoints, commands: Commands
    ) -> None:
        known = KnownReceivers(commands, clock=Clock(0.0))
        assert (await known.of("acme")).generation == 0
        await endpoints.add(an_endpoint())
        seen = await known.of("acme", since=1)
        assert (seen.generation, len(seen.endpoints)) == (1, 1)

    @pytest.mark.parametrize(
        ("change", "counts"),
        [
            ({"events": ("*",)}, True),
            ({"url": "https://elsewhere.example/"}, True),
            ({"disabled_at": NOW, "disabled_reason": DisabledReason.OWNER}, True),
            ({"description": "ours"}, False),
            ({"failing_since": NOW, "failed": ("msg_1",)}, False),
        ],
    )
    async def test_only_what_changes_who_is_told_counts_as_a_change(
        self, endpoints: Endpoints, commands: Commands, change: dict[str, object], counts: bool
    ) -> None:
        endpoint = await endpoints.add(an_endpoint())
        await endpoints.swap(endpoint, replace(endpoint, **change))  # type: ignore[arg-type]  # by name
        known = await KnownReceivers(commands).of("acme")
        assert known.generation == 1 + counts

    async def test_a_job_added_after_an_endpoint_is_told_of_by_who_did_not_know_it(
        self, endpoints: Endpoints, commands: Commands
    ) -> None:
        service, worker = Jobs(commands, RetentionSettings()), Jobs(commands, RetentionSettings())
        for jobs in (service, worker):
            await jobs.add(a_job(f"job_{id(jobs)}"))
        await endpoints.add(an_endpoint(events=("job.queued", *ENDINGS)))
        await service.add(a_job())
        job = await worker.find("job_1")
        assert job is not None
        await worker.swap(job, job.cancelled(NOW))
        assert sorted(one.type for one in await owed(commands)) == ["job.cancelled", "job.queued"]

    async def test_a_job_is_not_told_of_to_an_endpoint_that_was_removed_before(
        self, endpoints: Endpoints, commands: Commands
    ) -> None:
        endpoint = await endpoints.add(an_endpoint(events=("*",)))
        jobs = Jobs(commands, RetentionSettings())
        await jobs.add(a_job("job_0"))
        await endpoints.remove(endpoint)
        await jobs.add(a_job("job_1"))
        assert [one.job_id for one in await owed(commands)] == ["job_0"]

    async def test_what_many_images_bring_at_once_is_owed_in_one_step(
        self, endpoints: Endpoints, commands: Commands
    ) -> None:
        for at in range(MOST_ENDPOINTS):
            await endpoints.add(an_endpoint(f"we_{at}", events=("*",)))
        jobs = Jobs(commands, RetentionSettings())
        job = a_job()
        await jobs.add(job)
        assert len(await owed(commands)) == MOST_ENDPOINTS


def a_keyring() -> Keyring:
    keyring, _ = VAULT.new_keyring(NOW)
    return keyring
