"""Signatures as their receivers check them."""

import base64
import hmac
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from storage.vault import Secrets, Vault
from worker import signing


VAULT = Vault(b"a secret of thirty-two letters or more")
NOW = 1_800_000_000.75
(ONE_KEY, ONE), (OTHER_KEY, OTHER) = VAULT.new_key(NOW), VAULT.new_key(NOW)


def signatures(headers: dict[str, str], version: str) -> list[str]:
    entries = [entry.split(",") for entry in headers["webhook-signature"].split(" ")]
    return [text for said, text in entries if said == version]


def signed_by(public: str, headers: dict[str, str], body: bytes) -> bool:
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public))
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for one in signatures(headers, "v1a"):
        try:
            key.verify(base64.b64decode(one), text)
        except InvalidSignature:
            continue
        return True
    return False


def test_the_vector_of_the_standard_is_met() -> None:
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signing.headers(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        [Secrets(secret, ONE.seed)],
        1_614_265_330,
    )
    assert signatures(headers, "v1") == ["g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="]


def test_each_key_signs_both_ways_the_newest_first() -> None:
    headers = signing.headers("msg_1", b"{}", [ONE, OTHER], NOW)
    assert [len(signatures(headers, version)) for version in ("v1", "v1a")] == [2, 2]
    alone = signing.headers("msg_1", b"{}", [ONE], NOW)
    assert signatures(headers, "v1")[:1] == signatures(alone, "v1")
    assert signed_by(ONE_KEY.public, headers, b"{}")
    assert signed_by(OTHER_KEY.public, headers, b"{}")
    assert not signed_by(OTHER_KEY.public, alone, b"{}")


@given(body=st.text(min_size=1).map(str.encode))
def test_whatever_the_body_it_is_signed_as_it_is_sent(body: bytes) -> None:
    headers = signing.headers("msg_1", body, [ONE], NOW)
    assert headers["webhook-timestamp"] == "1800000000"
    digest = hmac.digest(ONE.hmac, b"msg_1.1800000000." + body, "sha256")
    assert signatures(headers, "v1") == [base64.b64encode(digest).decode()]
    assert signed_by(ONE_KEY.public, headers, body)
    assert not signed_by(ONE_KEY.public, headers, body + b" ")


@pytest.mark.parametrize(
    "change", [{"webhook-id": "msg_2"}, {"webhook-timestamp": "1800000001"}, {}]
)
def test_a_key_covers_the_id_and_the_time(change: dict[str, Any]) -> None:
    headers = {**signing.headers("msg_1", b"{}", [ONE], NOW), **change}
    assert signed_by(ONE_KEY.public, headers, b"{}") is not bool(change)


def test_no_secret_is_in_what_is_sent() -> None:
    text = repr(signing.headers("msg_1", b"{}", [ONE], NOW))
    for hidden in (ONE.text, ONE.text[6:], base64.b64encode(ONE.seed).decode(), ONE.hmac.hex()):
        assert hidden not in text
