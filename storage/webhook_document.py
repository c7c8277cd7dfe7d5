"""The documents of webhooks: the JSON of endpoints, of their public keys and of deliveries.

Times are Unix seconds, whole but for tries, of which several may fall into one. No secret is ever
part of a document: whoever makes one shows it beside.
"""

from typing import Any

from storage.delivery import Delivery, Try
from storage.endpoint import WebhookEndpoint
from storage.keyring import Keyring


def endpoint_document(endpoint: WebhookEndpoint, now: float) -> dict[str, Any]:
    """Return the JSON of a webhook endpoint, without any secret."""
    return {
        "id": endpoint.id,
        "object": "webhook_endpoint",
        "url": endpoint.url,
        "description": endpoint.description,
        "events": list(endpoint.events),
        "include_prompt": endpoint.include_prompt,
        "status": "enabled" if endpoint.is_enabled else "disabled",
        "disabled_reason": endpoint.disabled_reason,
        "disabled_at": _whole(endpoint.disabled_at),
        "failing_since": _whole(endpoint.failing_since),
        "created_at": int(endpoint.created_at),
        **keyring_document(endpoint.keyring, now),
    }


def keyring_document(keyring: Keyring, now: float) -> dict[str, Any]:
    """Return the JSON of the public halves of the keys that sign at the moment."""
    return {
        "public_key": f"whpk_{keyring.current.public}",
        "keyring": keyring.id,
        "keys": [
            {
                "id": key.id,
                "public_key": f"whpk_{key.public}",
                "created_at": int(key.created_at),
                "expires_at": _whole(key.expires_at),
            }
            for key in keyring.live(now)
        ],
    }


def delivery_document(delivery: Delivery, *, with_replies: bool = True) -> dict[str, Any]:
    """Return the JSON of a delivery; what receivers answered only where one delivery is shown."""
    return {
        "id": delivery.id,
        "object": "delivery",
        "type": delivery.type,
        "status": delivery.status,
        "endpoint": delivery.endpoint_id,
        "job": delivery.job_id,
        "url": delivery.url,
        "created_at": int(delivery.created_at),
        "next_try_at": _whole(delivery.next_at),
        "note": delivery.note,
        "tries": [_try(one, with_reply=with_replies) for one in delivery.tries],
    }


def _try(one: Try, *, with_reply: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "at": round(one.at, 3),
        "latency": round(one.latency, 3),
        "status": one.status,
        "error": one.error,
    }
    return {**shown, "reply": one.reply} if with_reply else shown


def _whole(moment: float | None) -> int | None:
    return None if moment is None else int(moment)
