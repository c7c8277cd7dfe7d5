"""The vault: secrets that sign webhooks, made here and kept only sealed.

What is kept in Redis is encrypted with AES-GCM under a key derived from the installation's own
secret, so a copy of the records signs nothing. Each seal is bound to the id of its key: it cannot
be moved to another.
"""

import base64
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final

from storage.errors import Conflict
from storage.keyring import Keyring, SigningKey


if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

# cryptography is imported where it is used: 9 MB that nobody without webhooks need pay.

_HMAC_BYTES: Final = 32
_SEED_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class Unsealable(Conflict):
    """A secret was sealed under another secret of the installation, or was tampered with."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """An opened key: what HMAC takes, and the seed of the Ed25519 key."""

    hmac: bytes = field(repr=False)
    seed: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """Return the HMAC secret as Standard Webhooks writes it."""
        return "whsec_" + base64.b64encode(self.hmac).decode()


class Vault:
    """Makes, seals and opens signing keys; `secret` is the installation's own."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def new_key(self, now: float) -> tuple[SigningKey, Secrets]:
        """Return a new key and what is inside."""
        from cryptography.hazmat.primitives.asymmetric import (  # noqa: PLC0415 — see above
            ed25519,
        )

        made = Secrets(secrets.token_bytes(_HMAC_BYTES), secrets.token_bytes(_SEED_BYTES))
        key_id = "wk_" + secrets.token_hex(8)
        private = ed25519.Ed25519PrivateKey.from_private_bytes(made.seed)
        public = base64.b64encode(private.public_key().public_bytes_raw()).decode()
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, made.hmac + made.seed, key_id.encode())
        key = SigningKey(
            id=key_id,
            sealed=base64.b64encode(sealed).decode(),
            public=public,
            created_at=now,
        )
        return key, made

    def new_keyring(self, now: float) -> tuple[Keyring, Secrets]:
        """Return a keyring with one new key, and what is inside."""
        key, made = self.new_key(now)
        return Keyring(id="wr_" + secrets.token_hex(16), keys=(key,)), made

    def open(self, key: SigningKey) -> Secrets:
        """Return what is inside of a key; raises `Unsealable`."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 — see above

        try:
            sealed = base64.b64decode(key.sealed, validate=True)
            nonce, rest = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
            opened = self._cipher.decrypt(nonce, rest, key.id.encode())
        except (InvalidTag, ValueError):
            message = "The webhook's secret cannot be opened; rotate it."
            raise Unsealable(message, code="secret_unsealable") from None
        return Secrets(opened[:_HMAC_BYTES], opened[_HMAC_BYTES:])

    @cached_property
    def _cipher(self) -> "AESGCM":
        from cryptography.hazmat.primitives.ciphers.aead import (  # noqa: PLC0415 — see above
            AESGCM,
        )

        return AESGCM(_derived(self._secret, b"darkroom webhook secrets 1"))


def _derived(secret: bytes, purpose: bytes) -> bytes:
    """Return a key for one purpose: HKDF of RFC 5869 with SHA-256, in its one-block form."""
    extracted = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(extracted, purpose + b"\x01", hashlib.sha256).digest()
