import re
import zlib
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from service.auth import Doorkeeper, Unauthenticated
from service.routes import ROUTES, Route
from service.settings import LimitSettings
from service.strangers import Strangers
from storage.tenant import Scope, presented
from tests.unit.service.conftest import Front, Start


def whole(body: str) -> str:
    """Return a key with its checksum."""
    return f"{body}_{zlib.crc32(body.encode()):08x}"


UNKNOWN = "Bearer " + whole("dk_live_" + "a" * 12 + "_" + "A" * 43)
WRONG = "dk_live_aaaaaaaaaaaa_" + "A" * 43 + "_00000000"


class TestAKey:
    async def test_a_good_key_lets_in(self, front: Front) -> None:
        answer = await front.get("/v1/jobs")
        assert answer.status == 200

    @pytest.mark.parametrize(
        "value",
        [
            None,
            "",
            "Bearer",
            "Bearer ",
            "Bearer x",
            "Basic dXNlcjpwYXNz",
            f"Bearer {WRONG}",
            "Bearer " + "x" * 5000,
            "Bearer dk_live_\u00e4",
        ],
    )
    async def test_every_bad_key_gets_the_same_answer(
        self, front: Front, value: str | None
    ) -> None:
        headers = {} if value is None else {"Authorization": value}
        answer = await front.client.get("/v1/jobs", headers=headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert (await answer.json())["error"]["code"] == "invalid_api_key"

    async def test_a_wrong_secret_and_an_unknown_id_read_alike(self, front: Front) -> None:
        other = await front.new_key("bob")
        shown = presented(other)
        assert shown is not None
        mixed = other.replace(shown.id, "0" * 12)
        bodies = []
        for key in (mixed, WRONG):
            answer = await front.client.get("/v1/jobs", headers={"Authorization": f"Bearer {key}"})
            bodies.append(await answer.read())
        assert bodies[0] == bodies[1]

    async def test_two_authorization_headers_are_none(self, front: Front) -> None:
        headers = [("Authorization", f"Bearer {front.key}")] * 2
        answer = await front.client.get("/v1/jobs", headers=headers)
        assert answer.status == 401

    async def test_the_scheme_may_be_written_small(self, front: Front) -> None:
        answer = await front.client.get(
            "/v1/jobs", headers={"Authorization": f"bearer {front.key}"}
        )
        assert answer.status == 200

    async def test_a_key_without_the_scope_may_not(self, front: Front) -> None:
        reader = await front.new_key("alice", Scope.READ)
        answer = await front.post(
            "/v1/jobs", {"prompt": "x"}, headers={"Authorization": f"Bearer {reader}"}
        )
        assert answer.status == 403
        assert (await answer.json())["error"]["code"] == "missing_scope"
        assert await front.queued() == 0


class TestARevokedKey:
    async def test_it_stops_working_within_five_seconds(self, front: Front) -> None:
        doorkeeper, now = front.context.doorkeeper, 1000.0
        headers = CIMultiDictProxy(CIMultiDict(front.headers))
        key, _ = await doorkeeper.admit(headers, Scope.READ, now)
        await front.context.tenants.change_key(key.id, lambda key: key.revoked(now))
        await doorkeeper.admit(headers, Scope.READ, now + 3.9)
        with pytest.raises(Unauthenticated):
            await doorkeeper.admit(headers, Scope.READ, now + 4.1)

    async def test_so_does_one_that_expires(self, front: Front) -> None:
        doorkeeper, now = front.context.doorkeeper, 1000.0
        headers = CIMultiDictProxy(CIMultiDict(front.headers))
        key, _ = await doorkeeper.admit(headers, Scope.READ, now)
        await front.context.tenants.change_key(key.id, lambda key: key.expiring(now + 10))
        await doorkeeper.admit(headers, Scope.READ, now + 9.9)
        with pytest.raises(Unauthenticated):
            await doorkeeper.admit(headers, Scope.READ, now + 10.1)


class TestScopes:
    @pytest.mark.parametrize("scope", list(Scope))
    @pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
    async def test_a_key_may_do_what_its_scopes_say_and_nothing_else(
        self, front: Front, route: Route, scope: Scope
    ) -> None:
        key = await front.new_key("alice", scope)
        path = re.sub(r"\{[^}]*\}", "0", route.path)
        options: dict[str, Any] = {} if route.method == "GET" else {"json": {}}
        answer = await front.client.request(
            route.method, path, headers={"Authorization": f"Bearer {key}"}, **options
        )
        assert (answer.status == 403) == (scope is not route.scope)
        if answer.status == 403:
            assert (await answer.json())["error"]["code"] == "missing_scope"

    @pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
    async def test_without_a_key_every_route_says_the_same(
        self, front: Front, route: Route
    ) -> None:
        path = re.sub(r"\{[^}]*\}", "0", route.path)
        first = await front.client.get("/v1/jobs")
        answer = await front.client.request(route.method, path)
        assert answer.status == 401
        assert await answer.read() == await first.read()


class TestTriesThatFail:
    @pytest.fixture
    async def front(self, start: Start) -> Front:
        return await start(limits=LimitSettings(failed_keys_per_minute=5))

    async def tries(self, front: Front, count: int, **headers: str) -> list[int]:
        return [
            (
                await front.client.get("/v1/jobs", headers={"Authorization": UNKNOWN, **headers})
            ).status
            for _ in range(count)
        ]

    async def test_an_address_has_so_many_in_a_minute(self, front: Front) -> None:
        assert await self.tries(front, 7) == [401] * 5 + [429] * 2
        answer = await front.client.get("/v1/jobs", headers={"Authorization": "Bearer x"})
        assert answer.status == 429
        assert 1 <= int(answer.headers["Retry-After"]) <= 12

    async def test_a_known_key_is_let_in_all_the_same(self, front: Front) -> None:
        assert (await front.get("/v1/jobs")).status == 200
        await self.tries(front, 7)
        assert (await front.get("/v1/jobs")).status == 200

    async def test_a_wrong_secret_is_no_known_key(self, front: Front) -> None:
        assert (await front.get("/v1/jobs")).status == 200
        shown = presented(front.key)
        assert shown is not None
        wrong = whole(f"dk_live_{shown.id}_" + "A" * 43)
        headers = {"Authorization": f"Bearer {wrong}"}
        statuses = [(await front.client.get("/v1/jobs", headers=headers)).status for _ in range(6)]
        assert statuses == [401] * 5 + [429]

    async def test_nothing_is_looked_up_for_an_address_that_is_not_listened_to(
        self, front: Front
    ) -> None:
        await self.tries(front, 6)
        other = await front.new_key("bob")
        answer = await front.client.get("/v1/jobs", headers={"Authorization": f"Bearer {other}"})
        assert answer.status == 429

    async def test_an_address_that_a_client_makes_up_is_not_believed(self, front: Front) -> None:
        statuses = [
            (await self.tries(front, 1, **{"X-Forwarded-For": f"203.0.113.{at}"}))[0]
            for at in range(6)
        ]
        assert statuses[-1] == 429

    async def test_behind_a_trusted_proxy_clients_are_told_apart(self, start: Start) -> None:
        limits = LimitSettings(failed_keys_per_minute=2)
        front = await start(limits=limits, trusted_proxies="127.0.0.0/8, ::1")
        assert await self.tries(front, 3, **{"X-Forwarded-For": "203.0.113.1"}) == [401, 401, 429]
        assert await self.tries(front, 1, **{"X-Forwarded-For": "203.0.113.2"}) == [401]


class TestTheUseOfAKey:
    async def test_it_is_noted_once_a_minute(self, front: Front) -> None:
        tenants = front.context.tenants
        doorkeeper = Doorkeeper(tenants, Strangers(60))
        headers = CIMultiDictProxy(CIMultiDict(front.headers))
        noted = []
        for now in (1000.0, 1030.0, 1059.0, 1061.0):
            key, _ = await doorkeeper.admit(headers, Scope.READ, now)
            await doorkeeper.close()
            noted += await tenants.last_uses([key.id])
        assert noted == [1000.0, 1000.0, 1000.0, 1061.0]

    async def test_a_key_that_was_refused_was_not_used(self, front: Front) -> None:
        reader = await front.new_key("alice", Scope.READ)
        headers = {"Authorization": f"Bearer {reader}"}
        assert (await front.post("/v1/jobs", {"prompt": "x"}, headers=headers)).status == 403
        shown = presented(reader)
        assert shown is not None
        assert await front.context.tenants.last_uses([shown.id]) == [None]
