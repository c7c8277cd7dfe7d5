"""What a message's signatures say, checked as Standard Webhooks says.

The HMAC (`v1`) is left to the public library. Its Ed25519 sibling (`v1a`) is checked here, because
the library knows only the first. Either is enough; both cover the id, the time and every byte.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook, WebhookVerificationError


TOLERANCE: Final = 300.0  # seconds that a message's time may be off
MOST: Final = 20  # signatures that are looked at; Darkroom sends ten while five keys sign
NAMES: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")


@dataclass(frozen=True, slots=True)
class Keys:
    """What a tenant's messages verify with: a secret, and public keys by their ids."""

    secret: str = field(repr=False)
    public: Mapping[str, bytes]


class Check(StrEnum):
    """What became of one kind of signature."""

    MATCHES = "matches"
    DIFFERS = "differs"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a message is what its sender wrote, and why. `v1a` names the key that signed it."""

    is_verified: bool
    reason: str
    v1: Check = Check.ABSENT
    v1a: Check = Check.ABSENT
    key: str | None = None


def judge(headers: Mapping[str, str], body: bytes, keys: Keys, now: float) -> Verdict:
    """Return what the signatures in `headers`, named in lower case, say of `body`."""
    for name in NAMES:
        if not headers.get(name):
            return Verdict(False, f"The header {name} is missing.")
    stamp = headers["webhook-timestamp"]
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        return Verdict(False, "Its time is no number.")
    if abs(now - int(stamp)) > TOLERANCE:
        return Verdict(False, "Its time is more than five minutes off.")
    key = _signer(headers, body, keys)
    v1 = _check(headers, "v1", matches=_is_signed(headers, body, keys))
    v1a = _check(headers, "v1a", matches=key is not None)
    verified = Check.MATCHES in {v1, v1a}
    reason = "A signature matches." if verified else "No signature matches what came."
    return Verdict(verified, reason, v1, v1a, key)


def _check(headers: Mapping[str, str], version: str, *, matches: bool) -> Check:
    if matches:
        return Check.MATCHES
    return Check.DIFFERS if any(_signatures(headers, version)) else Check.ABSENT


def _is_signed(headers: Mapping[str, str], body: bytes, keys: Keys) -> bool:
    try:
        Webhook(keys.secret).verify(body, dict(headers), json_parse=False)
    except (
        WebhookVerificationError,
        ValueError,
    ):  # it lets some faults of form through as they are
        return False
    return True


def _signer(headers: Mapping[str, str], body: bytes, keys: Keys) -> str | None:
    """Return the id of the public key that signed the message, or None."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    for signature in _signatures(headers, "v1a"):
        for key_id, raw in keys.public.items():
            try:
                Ed25519PublicKey.from_public_bytes(raw).verify(signature, signed)
            except InvalidSignature:
                continue
            return key_id
    return None


def _signatures(headers: Mapping[str, str], version: str) -> Iterator[bytes]:
    for entry in headers["webhook-signature"].split(" ")[:MOST]:
        said, _, text = entry.partition(",")
        if said == version:
            try:
                yield base64.b64decode(text, validate=True)
            except ValueError:
                yield b"\x00"  # there, and no signature
