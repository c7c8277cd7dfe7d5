"""The receivers of a tenant, as their owner sees them."""

import base64
from dataclasses import replace
from typing import Any

import orjson
import pytest
from standardwebhooks import Webhook

from service.admission import FEW
from storage import redis_keys
from storage.deliveries import Deliveries
from storage.delivery import Try
from storage.endpoint import MOST_ENDPOINTS, DisabledReason, WebhookEndpoint
from storage.event import BATCH_EVENTS, ENDINGS, EVENTS, TEST, WILDCARDS
from storage.keyring import MOST_KEYS
from storage.tenant import Scope
from tests.unit.service.conftest import Front


URL = "https://receiver.example/hook"
PATH = "/v1/webhook-endpoints"


async def made(front: Front, **fields: Any) -> Any:
    """Register an endpoint and return what was shown."""
    answer = await front.post(PATH, {"url": URL, **fields})
    assert answer.status == 201, await answer.text()
    return await answer.json()


async def shown(front: Front, method: str, path: str, document: Any = None) -> Any:
    answer = await front.request(method, path, json=document)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def complaint(front: Front, method: str, path: str, document: Any) -> tuple[int, Any]:
    answer = await front.request(method, path, json=document)
    error = (await answer.json())["error"]
    return answer.status, error["param"] or error["code"]


async def kept(front: Front, endpoint_id: str) -> WebhookEndpoint:
    endpoint = await front.context.endpoints.get("alice", endpoint_id)
    assert endpoint is not None
    return endpoint


# -- registering -----------------------------------------------------------------------------------


async def test_an_endpoint_is_registered_with_plain_defaults(front: Front) -> None:
    answer = await front.post(PATH, {"url": URL})
    endpoint = await answer.json()
    assert answer.status == 201
    assert answer.headers["Location"] == f"{PATH}/{endpoint['id']}"
    expected = {
        "object": "webhook_endpoint",
        "url": URL,
        "description": "",
        "events": list(ENDINGS),
        "include_prompt": False,
        "status": "enabled",
        "disabled_reason": None,
        "failing_since": None,
        "deliveries": {"delivered": 0, "undelivered": 0, "failed_tries": 0},
    }
    assert {name: endpoint[name] for name in expected} == expected


async def test_a_secret_is_shown_once_and_kept_only_sealed(front: Front) -> None:
    endpoint = await made(front)
    secret = endpoint["secret"]
    Webhook(secret)  # the public library takes it
    raw = base64.b64decode(secret.removeprefix("whsec_"))
    assert 24 <= len(raw) <= 64
    path = f"{PATH}/{endpoint['id']}"
    texts = [await (await front.get(one)).text() for one in (PATH, path)]
    texts.append(await (await front.request("PATCH", path, json={"description": "x"})).text())
    texts += [await (await front.post(f"{path}/{act}", {})).text() for act in ("disable", "enable")]
    assert all(secret not in text and '"secret"' not in text for text in texts)
    records = [await front.redis.dump(key) for key in await front.redis.keys("*")]
    forms = (raw, base64.b64encode(raw), raw.hex().encode())
    assert not [form for form in forms if any(form in record for record in records)]
    opened = front.context.vault.open((await kept(front, endpoint["id"])).keyring.current)
    assert opened.text == secret, "the same key could have been found"


async def test_two_endpoints_have_nothing_in_common_but_their_tenant(front: Front) -> None:
    one, other = await made(front), await made(front)
    for name in ("id", "secret", "public_key", "keyring", "jwks_url"):
        assert one[name] != other[name]


async def test_a_tenant_has_so_many_endpoints_and_no_more(front: Front) -> None:
    for _ in range(MOST_ENDPOINTS):
        await made(front)
    assert await complaint(front, "POST", PATH, {"url": URL}) == (400, "too_many_endpoints")
    assert len((await shown(front, "GET", PATH))["data"]) == MOST_ENDPOINTS


@pytest.mark.parametrize("events", [*([name] for name in (*EVENTS, *WILDCARDS)), list(EVENTS)])
async def test_each_event_and_each_wildcard_can_be_named(front: Front, events: list[str]) -> None:
    assert (await made(front, events=events))["events"] == events


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"url": None}, "url"),
        ({"url": 7}, "url"),
        ({"url": ""}, "url"),
        ({"url": "receiver.example"}, "url"),
        ({"url": "ftp://receiver.example/"}, "url"),
        ({"url": "http://receiver.example/"}, "url"),
        ({"url": "https://user:pass@receiver.example/"}, "url"),
        ({"url": "https://receiver.example:22/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "https://[::ffff:7f00:1]/"}, "url"),
        ({"url": "https://169.254.169.254/latest"}, "url"),
        ({"url": "https://receiver.example/dk_live_541g1h0yoilr_x"}, "url"),
        ({"url": "https://receiver.example/" + "x" * 2048}, "url"),
        ({"url": "https://receiver.example/\r\nX: y"}, "url"),
        ({"events": []}, "events"),
        ({"events": None}, "events"),
        ({"events": "job.*"}, "events"),
        ({"events": ["job.done"]}, "events"),
        ({"events": ["job.succ*"]}, "events"),
        ({"events": ["job"]}, "events"),
        ({"events": [TEST]}, "events"),
        ({"events": ["*"] * 33}, "events"),
        ({"events": [["job.*"]]}, "events.0"),
        ({"description": "x" * 257}, "description"),
        ({"description": "a\nb"}, "description"),
        ({"include_prompt": 1}, "include_prompt"),
        ({"include_prompt": "true"}, "include_prompt"),
        ({"secret": "whsec_mine"}, "secret"),
        ({"tenant": "bob"}, "tenant"),
    ],
)
async def test_what_is_wrong_is_named_whether_registered_or_changed(
    front: Front, fields: dict[str, Any], param: str
) -> None:
    refused = await complaint(front, "POST", PATH, {"url": URL, **fields})
    assert refused[0] == 400
    assert refused[1].startswith(param.partition(".")[0])
    assert (await shown(front, "GET", PATH))["data"] == []
    path = f"{PATH}/{(await made(front))['id']}"
    before = await shown(front, "GET", path)
    status, named = await complaint(front, "PATCH", path, fields)
    assert (status, named or "") == (400, named)
    assert await shown(front, "GET", path) == before


async def test_an_endpoint_needs_an_address(front: Front) -> None:
    assert await complaint(front, "POST", PATH, {}) == (400, "url")


# -- showing, changing, forgetting -----------------------------------------------------------------


async def test_endpoints_are_listed_the_oldest_first(front: Front) -> None:
    ids = [(await made(front))["id"] for _ in range(3)]
    listed = await shown(front, "GET", PATH)
    assert [one["id"] for one in listed["data"]] == ids
    assert (listed["object"], listed["has_more"], listed["next"]) == ("list", False, None)
    assert await complaint(front, "GET", PATH + "?limit=1", None) == (400, "limit")


async def test_a_change_changes_what_it_names_and_nothing_else(front: Front) -> None:
    before = await made(front, events=["job.*"], description="shop")
    del before["secret"]
    path = f"{PATH}/{before['id']}"
    changed = await shown(front, "PATCH", path, {"include_prompt": True})
    assert changed == {**before, "include_prompt": True}
    other = URL + "/other"
    changed = await shown(front, "PATCH", path, {"url": other, "events": ["*", "*"]})
    assert changed == {**before, "include_prompt": True, "url": other, "events": ["*"]}
    assert await shown(front, "GET", path) == changed


@pytest.mark.parametrize("change", [{}, {"url": None}, {"description": None}])
async def test_a_change_of_nothing_or_to_nothing_is_refused(
    front: Front, change: dict[str, Any]
) -> None:
    path = f"{PATH}/{(await made(front))['id']}"
    assert (await complaint(front, "PATCH", path, change))[0] == 400


async def test_a_forgotten_endpoint_is_gone_with_its_public_keys(front: Front) -> None:
    endpoint = await made(front)
    path = f"{PATH}/{endpoint['id']}"
    gone = await shown(front, "DELETE", path)
    assert gone == {"id": endpoint["id"], "object": "webhook_endpoint", "deleted": True}
    for method, one in (("GET", path), ("DELETE", path), ("POST", path + "/test")):
        assert await complaint(front, method, one, None) == (404, "endpoint_not_found")
    answer = await front.get(f"/.well-known/jwks.json?keyring={endpoint['keyring']}")
    assert answer.status == 404
    assert (await shown(front, "GET", PATH))["data"] == []


async def test_a_key_that_only_reads_changes_nothing(front: Front) -> None:
    endpoint = await made(front)
    reader = {"Authorization": f"Bearer {await front.new_key('alice', Scope.READ)}"}
    path = f"{PATH}/{endpoint['id']}"
    assert (await front.get(path, headers=reader)).status == 200
    refused = [("POST", PATH), ("PATCH", path), ("DELETE", path)]
    refused += [("POST", f"{path}/{act}") for act in ("rotate", "enable", "disable", "test")]
    for method, one in refused:
        answer = await front.request(method, one, json={"url": URL}, headers=reader)
        assert answer.status == 403, one


# -- disabled and enabled --------------------------------------------------------------------------


async def test_a_disabled_endpoint_says_so_and_can_be_enabled(front: Front) -> None:
    path = f"{PATH}/{(await made(front))['id']}"
    disabled = await shown(front, "POST", path + "/disable", {})
    assert (disabled["status"], disabled["disabled_reason"]) == ("disabled", "owner")
    assert disabled["disabled_at"] is not None
    assert await shown(front, "POST", path + "/disable", {}) == disabled, "twice is once"
    enabled = await shown(front, "POST", path + "/enable")
    assert (enabled["status"], enabled["disabled_reason"], enabled["disabled_at"]) == (
        *("enabled", None),
        None,
    )


async def test_an_endpoint_that_was_given_up_says_why_and_starts_anew(front: Front) -> None:
    endpoint = await made(front)
    record = await kept(front, endpoint["id"])
    failing = replace(record, failing_since=1_800_000_000.5, failed=("msg_1",))
    given_up = failing.disabled(DisabledReason.FAILING, 1_800_500_000.0)
    assert await front.context.endpoints.swap(record, given_up) is not None
    path = f"{PATH}/{endpoint['id']}"
    seen = await shown(front, "GET", path)
    assert (seen["disabled_reason"], seen["disabled_at"], seen["failing_since"]) == (
        *("failing", 1_800_500_000),
        1_800_000_000,
    )
    assert (await shown(front, "POST", path + "/enable"))["failing_since"] is None


@pytest.mark.parametrize("act", ["enable", "disable", "test"])
async def test_what_takes_no_fields_refuses_them_by_name(front: Front, act: str) -> None:
    path = f"{PATH}/{(await made(front))['id']}/{act}"
    assert await complaint(front, "POST", path, {"force": True}) == (400, "force")


# -- rotation --------------------------------------------------------------------------------------


async def test_a_rotation_shows_the_new_secret_and_both_keys_sign_for_a_day(front: Front) -> None:
    before = await made(front)
    path = f"{PATH}/{before['id']}"
    after = await shown(front, "POST", path + "/rotate", {})
    assert after["secret"] != before["secret"]
    assert after["keyring"] == before["keyring"]
    new, old = after["keys"]
    assert (new["public_key"], new["expires_at"]) == (after["public_key"], None)
    assert old["public_key"] == before["public_key"]
    assert old["expires_at"] - new["created_at"] == pytest.approx(86_400, abs=1)
    assert "secret" not in await shown(front, "GET", path)


async def test_a_rotation_without_overlap_ends_the_old_key_at_once(front: Front) -> None:
    path = f"{PATH}/{(await made(front))['id']}"
    after = await shown(front, "POST", path + "/rotate", {"overlap": 0})
    assert [key["public_key"] for key in after["keys"]] == [after["public_key"]]


@pytest.mark.parametrize("overlap", [-1, 86_401, "1h", None, True, 1e400])
async def test_an_overlap_is_seconds_and_a_day_at_most(front: Front, overlap: Any) -> None:
    path = f"{PATH}/{(await made(front))['id']}"
    status, named = await complaint(front, "POST", path + "/rotate", {"overlap": overlap})
    assert status == 400
    assert named in {"overlap", "invalid_json"}
    assert len((await shown(front, "GET", path))["keys"]) == 1


async def test_rotations_without_end_are_refused(front: Front) -> None:
    path = f"{PATH}/{(await made(front))['id']}"
    for keys in range(2, MOST_KEYS + 1):
        assert len((await shown(front, "POST", path + "/rotate", {}))["keys"]) == keys
    assert await complaint(front, "POST", path + "/rotate", {}) == (409, "too_many_keys")


# -- a message to try ------------------------------------------------------------------------------


async def test_a_test_is_owed_to_the_endpoint_whatever_it_wants_to_hear(front: Front) -> None:
    endpoint = await made(front, events=[BATCH_EVENTS[0]])
    answer = await front.post(f"{PATH}/{endpoint['id']}/test", {})
    delivery = await answer.json()
    assert answer.status == 202
    assert answer.headers["Location"] == f"/v1/deliveries/{delivery['id']}"
    assert (delivery["type"], delivery["status"]) == (TEST, "pending")
    assert delivery["endpoint"] == endpoint["id"]
    assert await front.redis.zscore(redis_keys.WEBHOOK_QUEUE, delivery["id"]) is not None
    owed = await front.context.deliveries.get("alice", delivery["id"])
    assert owed is not None
    assert owed.data is not None
    told = orjson.loads(owed.data)
    assert told["id"] == endpoint["id"]
    assert endpoint["secret"] not in owed.data


async def test_a_disabled_endpoint_is_sent_no_test(front: Front) -> None:
    path = f"{PATH}/{(await made(front))['id']}"
    await shown(front, "POST", path + "/disable")
    assert await complaint(front, "POST", path + "/test", {}) == (409, "endpoint_disabled")


async def test_tests_without_end_are_refused_for_a_while(front: Front) -> None:
    path = f"{PATH}/{(await made(front))['id']}/test"
    taken, answer = 0, await front.post(path)
    while answer.status == 202 and taken < 5 * FEW:  # one more comes through each second
        taken, answer = taken + 1, await front.post(path)
    assert taken >= FEW
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 1


async def test_what_became_of_its_messages_is_counted(front: Front) -> None:
    endpoint = await made(front)
    path = f"{PATH}/{endpoint['id']}"
    deliveries: Deliveries = front.context.deliveries
    for status, at in ((200, 1.0), (500, 2.0), (410, 3.0)):
        sent = await (await front.post(path + "/test")).json()
        owed = await deliveries.get("alice", sent["id"])
        assert owed is not None
        tried = owed.tried(Try(at=at, latency=0.1, status=status), jitter=0)
        assert await deliveries.swap(owed, tried, at) is not None
    counts = (await shown(front, "GET", path))["deliveries"]
    assert counts == {"delivered": 1, "undelivered": 1, "failed_tries": 1}
