"""Secrets are kept sealed, and opened only by the installation that sealed them."""

import base64
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from storage.vault import Unsealable, Vault, _derived
from tests.samples import NOW


OURS = Vault(b"a secret of thirty-two letters or more")


def test_a_key_opens_to_what_was_sealed() -> None:
    key, made = OURS.new_key(NOW)
    assert OURS.open(key) == made
    assert (len(made.hmac), len(made.seed)) == (32, 32)


def test_the_secret_is_written_as_standard_webhooks_does() -> None:
    _, made = OURS.new_key(NOW)
    assert base64.b64decode(made.text.removeprefix("whsec_"), validate=True) == made.hmac


def test_the_public_half_belongs_to_the_seed() -> None:
    key, made = OURS.new_key(NOW)
    public = Ed25519PrivateKey.from_private_bytes(made.seed).public_key().public_bytes_raw()
    assert base64.b64decode(key.public) == public


def test_no_two_keys_are_alike() -> None:
    made = [OURS.new_key(NOW) for _ in range(50)]
    assert len({key.id for key, _ in made}) == 50
    assert len({secrets.hmac for _, secrets in made}) == 50
    assert len({secrets.seed for _, secrets in made}) == 50
    assert len({OURS.new_keyring(NOW)[0].id for _ in range(50)}) == 50


def test_what_is_sealed_shows_nothing_of_the_secret() -> None:
    key, made = OURS.new_key(NOW)
    sealed = base64.b64decode(key.sealed)
    assert made.hmac not in sealed
    assert made.seed not in sealed
    assert made.text not in repr((key, made))


def test_another_installation_cannot_open_it() -> None:
    key, _ = OURS.new_key(NOW)
    with pytest.raises(Unsealable) as refusal:
        Vault(b"another secret of thirty-two letters").open(key)
    assert refusal.value.__cause__ is None


def test_a_seal_cannot_be_moved_to_another_key() -> None:
    (mine, _), (other, _) = OURS.new_key(NOW), OURS.new_key(NOW)
    with pytest.raises(Unsealable):
        OURS.open(replace(mine, sealed=other.sealed))


@pytest.mark.parametrize("at", [0, 12, 40, -1])
def test_a_seal_that_was_tampered_with_is_not_opened(at: int) -> None:
    key, _ = OURS.new_key(NOW)
    sealed = bytearray(base64.b64decode(key.sealed))
    sealed[at] ^= 1
    with pytest.raises(Unsealable):
        OURS.open(replace(key, sealed=base64.b64encode(sealed).decode()))


@pytest.mark.parametrize("sealed", ["", "x", "AAAA", "not base64!"])
def test_what_is_no_seal_is_not_opened(sealed: str) -> None:
    key, _ = OURS.new_key(NOW)
    with pytest.raises(Unsealable):
        OURS.open(replace(key, sealed=sealed))


def test_keys_are_derived_as_rfc_5869_says() -> None:
    expected = HKDF(hashes.SHA256(), 32, None, b"purpose").derive(b"secret")
    assert _derived(b"secret", b"purpose") == expected
