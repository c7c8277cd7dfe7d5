import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from service.auth import Unauthenticated
from storage.tenant import Scope, presented
from tests.unit.service.conftest import Front


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
        await front.context.tenants.put_key(key.revoked(now))
        await doorkeeper.admit(headers, Scope.READ, now + 3.9)
        with pytest.raises(Unauthenticated):
            await doorkeeper.admit(headers, Scope.READ, now + 4.1)
