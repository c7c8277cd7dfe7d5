"""Signatures of webhooks, as Standard Webhooks writes them.

Each message is signed by every key that its receiver may still know: by HMAC (`v1`), which any of
the public libraries verifies, and by Ed25519 (`v1a`), which a receiver verifies without knowing a
secret. What is signed is the id, the time of the try and the exact bytes that are sent.
"""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook

from storage.vault import Secrets


def headers(message_id: str, body: bytes, secrets: Sequence[Secrets], now: float) -> dict[str, str]:
    """Return the headers of one try at `now`, in Unix seconds."""
    stamp = int(now)
    # The library signs wrongly unless the time is in UTC.
    moment = datetime.fromtimestamp(stamp, UTC)
    text = body.decode()
    signatures = [Webhook(one.hmac).sign(message_id, moment, text) for one in secrets]
    signed = f"{message_id}.{stamp}.".encode() + body
    signatures += [
        f"v1a,{base64.b64encode(_ed25519(one.seed, signed)).decode()}" for one in secrets
    ]
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(stamp),
        "webhook-signature": " ".join(signatures),
    }


def _ed25519(seed: bytes, data: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import (  # noqa: PLC0415 — see storage.vault
        ed25519,
    )

    return ed25519.Ed25519PrivateKey.from_private_bytes(seed).sign(data)
