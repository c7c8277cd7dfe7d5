import re
from typing import Any

import pytest
from aiohttp import ClientResponse
from multidict import CIMultiDict, CIMultiDictProxy

from service.auth import Unauthenticated
from service.routes import ROUTES
from storage.jobs import Jobs, Seating
from storage.tenant import Scope, presented
from tests.samples import a_job
from tests.unit.service.conftest import Front


class Operator:
    """Asks with a key that may administer and nothing else."""

    def __init__(self, front: Front, key: str) -> None:
        self._front = front
        self._headers = {"Authorization": f"Bearer {key}"}
        shown = presented(key)
        assert shown is not None
        self.id = shown.id

    async def ask(self, method: str, path: str, document: Any = None) -> ClientResponse:
        options: dict[str, Any] = {} if document is None else {"json": document}
        return await self._front.client.request(
            method, f"/v1/admin{path}", headers=self._headers, **options
        )

    async def json(self, method: str, path: str, document: Any = None) -> Any:
        """Return the answer, which must be as its description says."""
        answer = await self.ask(method, path, document)
        assert answer.status < 300, await answer.text()
        told = await answer.json()
        plain = re.sub(r"/(tenants|keys)/[^/]+", r"/\1/{id}", path.partition("?")[0])
        route = next(r for r in ROUTES if (r.method, r.path) == (method, f"/v1/admin{plain}"))
        assert route.shows is not None
        assert route.status == answer.status
        route.shows.model_validate(told)
        return told

    async def refused(self, method: str, path: str, document: Any = None) -> tuple[int, str, Any]:
        answer = await self.ask(method, path, document)
        error = (await answer.json())["error"]
        return answer.status, error["code"], error["param"]


@pytest.fixture
async def operator(front: Front) -> Operator:
    return Operator(front, await front.new_key("house", Scope.ADMIN))


async def admits(front: Front, key: str) -> bool:
    answer = await front.client.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
    return answer.status == 200


class TestTenants:
    async def test_a_tenant_is_made_and_found(self, operator: Operator) -> None:
        limits = {
            "weight": 2.0,
            "max_queued": 100,
            "max_running": 5,
            "requests_per_minute": 60,
            "spend_per_day": 12.5,
        }
        made = await operator.json("POST", "/tenants", {"id": "globex", **limits})
        assert made.pop("created_at") > 0
        assert made == {"id": "globex", "object": "tenant", "removed_at": None, **limits}
        shown = await operator.json("GET", "/tenants/globex")
        assert {name: shown[name] for name in limits} == limits

    async def test_a_name_that_is_taken_is_refused(self, operator: Operator) -> None:
        refusal = await operator.refused("POST", "/tenants", {"id": "alice", "weight": 9})
        assert refusal == (409, "tenant_exists", "id")
        assert (await operator.json("GET", "/tenants/alice"))["weight"] == 1.0

    async def test_what_is_named_changes_and_what_is_not_stays(self, operator: Operator) -> None:
        await operator.json("PATCH", "/tenants/alice", {"max_queued": 5, "weight": 3})
        changed = await operator.json("PATCH", "/tenants/alice", {"max_queued": None})
        assert (changed["max_queued"], changed["weight"]) == (None, 3.0)

    async def test_a_changed_limit_holds_within_five_seconds(
        self, front: Front, operator: Operator
    ) -> None:
        assert (await front.post("/v1/jobs", {"prompt": "x"})).status == 202
        await operator.json("PATCH", "/tenants/alice", {"max_queued": 1})
        front.context.doorkeeper._known.clear()
        assert (await front.post("/v1/jobs", {"prompt": "x"})).status == 202
        assert (await front.post("/v1/jobs", {"prompt": "x"})).status == 429

    async def test_a_raised_limit_seats_the_jobs_that_stand(
        self, front: Front, operator: Operator
    ) -> None:
        await operator.json("PATCH", "/tenants/alice", {"max_running": 1})
        jobs: Jobs = front.context.jobs
        for at in range(250):
            await jobs.add(a_job(f"job_{at}", tenant="alice"), seating=Seating())
        assert await front.queued() == 1
        await operator.json("PATCH", "/tenants/alice", {"max_running": None})
        assert await front.queued() == 250

    async def test_all_are_listed(self, operator: Operator) -> None:
        page = await operator.json("GET", "/tenants")
        assert [tenant["id"] for tenant in page["data"]] == ["alice", "house"]
        assert (page["has_more"], page["next"]) == (False, None)

    @pytest.mark.parametrize(
        ("changes", "param"),
        [
            ({"weight": 0}, "weight"),
            ({"weight": None}, "weight"),
            ({"weight": "2"}, "weight"),
            ({"max_queued": -1}, "max_queued"),
            ({"max_running": 0}, "max_running"),
            ({"max_running": 1.5}, "max_running"),
            ({"requests_per_minute": 0}, "requests_per_minute"),
            ({"spend_per_day": -1}, "spend_per_day"),
            ({"created_at": 0}, "created_at"),
            ({"id": "other"}, "id"),
        ],
    )
    async def test_a_limit_that_cannot_be_is_refused(
        self, operator: Operator, changes: dict[str, Any], param: str
    ) -> None:
        status, _, named = await operator.refused("PATCH", "/tenants/alice", changes)
        assert (status, named) == (400, param)

    @pytest.mark.parametrize("name", ["", "a b", "../x", "{a}", "a" * 64, "-a", "a:b", 5, None])
    async def test_a_name_is_plain(self, operator: Operator, name: Any) -> None:
        status, _, param = await operator.refused("POST", "/tenants", {"id": name})
        assert (status, param) == (400, "id")

    async def test_one_that_is_not_there_is_missing(self, operator: Operator) -> None:
        for method, document in (("GET", None), ("PATCH", {"weight": 2})):
            refusal = await operator.refused(method, "/tenants/nobody", document)
            assert refusal == (404, "tenant_not_found", None)


class TestRemoval:
    async def test_a_removed_tenant_is_let_in_no_more(
        self, front: Front, operator: Operator
    ) -> None:
        removed = await operator.json("DELETE", "/tenants/alice")
        assert removed["removed_at"] is not None
        assert not await admits(front, front.key)
        assert await front.context.tenants.removed(5) == [await front.context.tenants.get("alice")]

    async def test_one_that_was_let_in_is_shut_out_within_five_seconds(
        self, front: Front, operator: Operator
    ) -> None:
        assert await admits(front, front.key)
        await operator.json("DELETE", "/tenants/alice")
        later = front.context.clock() + 5
        headers = CIMultiDictProxy(CIMultiDict(front.headers))
        with pytest.raises(Unauthenticated):
            await front.context.doorkeeper.admit(headers, Scope.READ, later)

    async def test_saying_it_twice_is_harmless(self, operator: Operator) -> None:
        first = await operator.json("DELETE", "/tenants/alice")
        assert await operator.json("DELETE", "/tenants/alice") == first
        page = await operator.json("GET", "/audit")
        assert [(act["act"], act["subject"]) for act in page["data"]] == 2 * [
            ("tenant.removed", "alice")
        ]

    async def test_nothing_can_be_made_of_one_on_its_way_out(self, operator: Operator) -> None:
        await operator.json("DELETE", "/tenants/alice")
        for method, path, asked, code in (
            ("PATCH", "/tenants/alice", {"weight": 2}, "tenant_removed"),
            ("POST", "/keys", {"tenant": "alice"}, "tenant_removed"),
            ("POST", "/tenants", {"id": "alice"}, "tenant_exists"),
        ):
            assert (await operator.refused(method, path, asked))[:2] == (409, code)

    async def test_a_key_cannot_remove_its_own_tenant(self, operator: Operator) -> None:
        for tenant, refusal in (
            ("house", (409, "own_tenant", None)),
            ("nobody", (404, "tenant_not_found", None)),
        ):
            assert await operator.refused("DELETE", f"/tenants/{tenant}") == refusal


class TestKeys:
    async def test_a_key_is_shown_once(self, front: Front, operator: Operator) -> None:
        asked = {"tenant": "alice", "name": "ci", "scopes": ["read"], "requests_per_minute": 7}
        asked["spend_per_day"] = 2.5
        made = await operator.json("POST", "/keys", asked)
        text = made.pop("key")
        assert await admits(front, text)
        assert {name: made[name] for name in asked} == asked
        assert (made["live"], made["environment"], made["expires_at"]) == (True, "live", None)
        shown = await operator.ask("GET", f"/keys/{made['id']}")
        assert text.split("_", 3)[3][:43] not in await shown.text()
        assert "digest" not in await shown.text()

    async def test_its_last_use_is_shown(self, front: Front, operator: Operator) -> None:
        made = await operator.json("POST", "/keys", {"tenant": "alice"})
        assert made["last_used_at"] is None
        await admits(front, made["key"])
        await front.context.doorkeeper.close()
        shown = await operator.json("GET", f"/keys/{made['id']}")
        assert shown["last_used_at"] >= made["created_at"]

    async def test_a_tenants_keys_are_listed(self, operator: Operator) -> None:
        await operator.json("POST", "/keys", {"tenant": "alice", "name": "second"})
        page = await operator.json("GET", "/keys?tenant=alice")
        assert [key["name"] for key in page["data"]] == ["", "second"]
        assert (await operator.refused("GET", "/keys"))[:2] == (400, "missing_parameter")
        assert (await operator.refused("GET", "/keys?tenant=nobody"))[0] == 404

    async def test_a_revoked_key_stops_working(self, front: Front, operator: Operator) -> None:
        made = await operator.json("POST", "/keys", {"tenant": "alice"})
        revoked = await operator.json("DELETE", f"/keys/{made['id']}")
        again = await operator.json("DELETE", f"/keys/{made['id']}")
        assert (revoked["live"], again["revoked_at"]) == (False, revoked["revoked_at"])
        assert not await admits(front, made["key"])

    async def test_a_rotated_key_works_beside_its_successor(
        self, front: Front, operator: Operator
    ) -> None:
        old = await operator.json("POST", "/keys", {"tenant": "alice", "name": "ci"})
        new = await operator.json("POST", f"/keys/{old['id']}/rotate", {"overlap": 3600})
        assert new["name"] == "ci"
        assert await admits(front, old["key"])
        assert await admits(front, new["key"])
        assert new["replaces"]["id"] == old["id"]
        assert new["replaces"]["expires_at"] == pytest.approx(new["created_at"] + 3600)

    async def test_without_overlap_it_stops_at_once(self, front: Front, operator: Operator) -> None:
        old = await operator.json("POST", "/keys", {"tenant": "alice"})
        await operator.json("POST", f"/keys/{old['id']}/rotate", {"overlap": 0})
        assert not await admits(front, old["key"])
        refusal = await operator.refused("POST", f"/keys/{old['id']}/rotate")
        assert refusal == (409, "key_not_live", None)

    async def test_a_rotation_may_have_no_body(self, operator: Operator) -> None:
        old = await operator.json("POST", "/keys", {"tenant": "alice"})
        new = await operator.json("POST", f"/keys/{old['id']}/rotate")
        assert new["replaces"]["expires_at"] == pytest.approx(new["created_at"] + 86_400)

    async def test_a_key_can_be_changed(self, front: Front, operator: Operator) -> None:
        made = await operator.json("POST", "/keys", {"tenant": "alice", "requests_per_minute": 5})
        changes = {"scopes": ["submit"], "requests_per_minute": None, "name": "nightly"}
        changed = await operator.json("PATCH", f"/keys/{made['id']}", changes)
        assert {name: changed[name] for name in changes} == changes
        assert not await admits(front, made["key"])

    @pytest.mark.parametrize(
        ("asked", "param"),
        [
            ({}, "tenant"),
            ({"tenant": "nobody"}, "tenant"),
            ({"tenant": "alice", "scopes": []}, "scopes"),
            ({"tenant": "alice", "scopes": ["all"]}, "scopes.0"),
            ({"tenant": "alice", "scopes": ["read", "read"]}, "scopes"),
            ({"tenant": "alice", "expires_in": 0}, "expires_in"),
            ({"tenant": "alice", "spend_per_day": -1}, "spend_per_day"),
            ({"tenant": "alice", "environment": "prod"}, "environment"),
            ({"tenant": "alice", "digest": "0" * 64}, "digest"),
            ({"tenant": "alice", "name": "x" * 65}, "name"),
        ],
    )
    async def test_a_key_that_cannot_be_is_refused(
        self, operator: Operator, asked: dict[str, Any], param: str
    ) -> None:
        status, _, named = await operator.refused("POST", "/keys", asked)
        assert (status, named) == (400, param)

    @pytest.mark.parametrize(
        ("method", "path", "document"),
        [
            ("GET", "", None),
            ("PATCH", "", {"name": "x"}),
            ("DELETE", "", None),
            ("POST", "/rotate", None),
        ],
    )
    async def test_one_that_is_not_there_is_missing(
        self, operator: Operator, method: str, path: str, document: dict[str, str] | None
    ) -> None:
        refusal = await operator.refused(method, f"/keys/nobody{path}", document)
        assert refusal == (404, "key_not_found", None)


class TestAudit:
    async def test_it_says_who_did_what(self, operator: Operator) -> None:
        await operator.json("PATCH", "/tenants/alice", {"weight": 3})
        made = await operator.json("POST", "/keys", {"tenant": "alice", "scopes": ["read"]})
        await operator.json("PATCH", f"/keys/{made['id']}", {"name": "ci"})
        await operator.json("DELETE", f"/keys/{made['id']}")
        page = await operator.json("GET", "/audit")
        assert [(act["act"], act["subject"], act["changes"]) for act in page["data"]] == [
            ("key.revoked", made["id"], {}),
            ("key.changed", made["id"], {"name": "ci"}),
            ("key.created", made["id"], {"scopes": ["read"]}),
            ("tenant.changed", "alice", {"weight": 3}),
        ]
        assert {(act["by"], act["tenant"]) for act in page["data"]} == {(operator.id, "alice")}

    async def test_it_comes_in_pages(self, operator: Operator) -> None:
        for weight in range(1, 6):
            await operator.json("PATCH", "/tenants/alice", {"weight": weight})
        seen, cursor = [], ""
        for _ in range(3):
            page = await operator.json("GET", f"/audit?limit=2{cursor}")
            seen += [act["changes"]["weight"] for act in page["data"]]
            cursor = f"&cursor={page['next']}"
        assert seen == [5, 4, 3, 2, 1]
        assert page["has_more"] is False

    @pytest.mark.parametrize("query", ["limit=0", "limit=501", "cursor=x", "cursor=-", "other=1"])
    async def test_a_query_that_cannot_be_is_refused(self, operator: Operator, query: str) -> None:
        assert (await operator.refused("GET", f"/audit?{query}"))[0] == 400

    async def test_no_secret_gets_into_it(self, front: Front, operator: Operator) -> None:
        made = await operator.json("POST", "/keys", {"tenant": "alice"})
        new = await operator.json("POST", f"/keys/{made['id']}/rotate")
        text = await (await operator.ask("GET", "/audit")).text()
        for key in (made["key"], new["key"]):
            shown = presented(key)
            assert shown is not None
            assert key.split("_", 3)[3][:20] not in text
            assert shown.digest not in text
