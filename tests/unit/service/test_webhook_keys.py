"""Keys that sign webhooks, as their tenant and as everybody sees them."""

import base64
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook

from storage.tenant import Scope
from tests.unit.service.conftest import Front, Start


SECRET = "/v1/webhook-secret"
JWKS = "/.well-known/jwks.json"


async def shown(front: Front, path: str) -> Any:
    answer = await front.get(path)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def public(front: Front, path: str) -> Any:
    """Return what somebody without a key is shown."""
    answer = await front.client.get(path)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def rotated(front: Front, **fields: Any) -> Any:
    answer = await front.post(SECRET + "/rotate", fields)
    assert answer.status == 200, await answer.text()
    return await answer.json()


def path_of(url: str) -> str:
    return url.removeprefix("http://front.test")


async def test_the_secret_of_a_tenant_stays_the_same_and_is_its_own(front: Front) -> None:
    first = await shown(front, SECRET)
    Webhook(first["secret"])  # the public library takes it
    assert await shown(front, SECRET) == first
    bob = {"Authorization": f"Bearer {await front.new_key('bob')}"}
    theirs = await (await front.client.get(SECRET, headers=bob)).json()
    assert theirs["secret"] != first["secret"]


async def test_a_secret_is_kept_only_sealed(front: Front) -> None:
    raw = base64.b64decode((await shown(front, SECRET))["secret"].removeprefix("whsec_"))
    records = [await front.redis.dump(key) for key in await front.redis.keys("*")]
    forms = (raw, base64.b64encode(raw), raw.hex().encode())
    assert not [form for form in forms if any(form in record for record in records)]


async def test_a_rotation_replaces_the_secret_and_the_old_key_signs_on(front: Front) -> None:
    before, after = await shown(front, SECRET), await rotated(front)
    assert after["secret"] != before["secret"]
    assert await shown(front, SECRET) == after
    assert [key["public_key"] for key in after["keys"]] == [
        after["public_key"],
        before["public_key"],
    ]
    last = await rotated(front, overlap=0)
    assert [key["public_key"] for key in last["keys"]] == [last["public_key"]]


async def test_a_secret_of_another_installation_says_that_it_must_be_rotated(start: Start) -> None:
    front = await start()
    await shown(front, SECRET)
    moved = await start(redis=front.redis, secret=SecretStr("another secret of thirty-two letters"))
    answer = await moved.get(SECRET)
    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (409, "secret_unsealable")
    assert "rotate" in error["message"]
    fresh = await rotated(moved)
    assert (await shown(moved, SECRET))["secret"] == fresh["secret"]


@pytest.mark.parametrize("overlap", [-1, 86_401, "1h", None])
async def test_an_overlap_that_is_none_is_named(front: Front, overlap: Any) -> None:
    answer = await front.post(SECRET + "/rotate", {"overlap": overlap})
    assert (answer.status, (await answer.json())["error"]["param"]) == (400, "overlap")


async def test_a_key_that_only_reads_is_shown_no_secret(front: Front) -> None:
    reader = {"Authorization": f"Bearer {await front.new_key('alice', Scope.READ)}"}
    assert (await front.get(SECRET, headers=reader)).status == 403
    assert (await front.post(SECRET + "/rotate", {}, headers=reader)).status == 403


async def test_public_keys_are_at_their_address_for_everybody(front: Front) -> None:
    own = await rotated(front)
    keys = (await public(front, path_of(own["jwks_url"])))["keys"]
    assert [key["kid"] for key in keys] == [key["id"] for key in own["keys"]]
    for key, said in zip(keys, own["keys"], strict=True):
        raw = base64.urlsafe_b64decode(key["x"] + "=")
        assert len(raw) == 32
        assert said["public_key"] == "whpk_" + base64.b64encode(raw).decode()
        del key["kid"], key["x"]
        assert key == {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig"}


async def test_public_keys_may_be_remembered_for_minutes_and_say_nothing_else(
    front: Front,
) -> None:
    own = await shown(front, SECRET)
    answer = await front.client.get(path_of(own["jwks_url"]))
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert set(await answer.json()) == {"keys"}
    assert "alice" not in await answer.text()


async def test_an_expired_key_is_not_shown(front: Front) -> None:
    before = await shown(front, SECRET)
    await rotated(front, overlap=0)
    kids = {key["kid"] for key in (await public(front, path_of(before["jwks_url"])))["keys"]}
    assert before["keys"][0]["id"] not in kids


async def test_a_tenant_finds_all_of_its_own_keys_and_nobody_else_does(front: Front) -> None:
    own = await shown(front, SECRET)
    made = await front.post("/v1/webhook-endpoints", {"url": "https://receiver.example/"})
    endpoint = await made.json()
    mine = {key["kid"] for key in (await shown(front, JWKS))["keys"]}
    assert mine == {own["keys"][0]["id"], endpoint["keys"][0]["id"]}
    bob = {"Authorization": f"Bearer {await front.new_key('bob')}"}
    assert await (await front.client.get(JWKS, headers=bob)).json() == {"keys": []}
    assert (await front.client.get(JWKS)).status == 401


@pytest.mark.parametrize("keyring", ["", "wr_nobodys", "../keys", "x" * 5000])
async def test_a_keyring_that_never_was_is_named(front: Front, keyring: str) -> None:
    answer = await front.client.get(JWKS, params={"keyring": keyring})
    assert (answer.status, (await answer.json())["error"]["param"]) == (404, "keyring")
