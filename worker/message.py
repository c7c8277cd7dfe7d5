"""The body of a webhook: what happened, when, and the job as it is now.

It is thin: receivers that need more read the job. Above the limit of Standard Webhooks its largest
parts are cut until it fits, and it says which, and where the whole is.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

from storage.address import without_query
from storage.delivery import Delivery
from storage.document import Linked, image_document, job_document
from storage.job import Job
from storage.objects import Link


LIMIT: Final = 20_000  # bytes, excluded
_LONGEST_SHOWN: Final = 100  # letters of a text that are left in any case
_PLACES: Final = {
    "job": "/v1/jobs",
    "batch": "/v1/batches",
    "webhook_endpoint": "/v1/webhook-endpoints",
}


def body_of(
    delivery: Delivery,
    job: Job | None,
    links: Mapping[Linked, Link],
    *,
    with_prompt: bool,
    public_url: str,
) -> bytes:
    """Return what is sent: less than 20 kB of JSON. `job` is None when it was deleted meanwhile."""
    message: dict[str, Any] = {
        "type": delivery.type,
        "timestamp": _iso(delivery.created_at),
        "data": _data(delivery, job, links, with_prompt=with_prompt),
    }
    body = orjson.dumps(message)
    if len(body) < LIMIT:
        return body
    data = message["data"] = orjson.loads(body)["data"]
    return _cut(message, f"{public_url.rstrip('/')}{_PLACES[data['object']]}/{data['id']}")


def _data(
    delivery: Delivery, job: Job | None, links: Mapping[Linked, Link], *, with_prompt: bool
) -> Any:
    if delivery.data is not None:
        return orjson.Fragment(delivery.data)
    if job is None:
        return {"id": delivery.job_id, "object": "job", "deleted": True}
    document = job_document(job, links, with_prompt=with_prompt)
    if delivery.endpoint_id is not None and job.webhook_url is not None:
        document["webhook_url"] = without_query(job.webhook_url)
    for image in job.images:
        if image.index == delivery.image:
            document["image"] = image_document(job, image, links, with_prompt=with_prompt)
    return document


def _cut(message: dict[str, Any], url: str) -> bytes:
    """Cut the largest part, and again, until the message fits."""
    data = message["data"]
    fields: list[str] = []
    data["truncated"] = {"fields": fields, "url": url}
    body = orjson.dumps(message)
    while len(body) >= LIMIT:
        part = max(_parts(data), key=lambda part: len(orjson.dumps(part.value)))
        part.holder[part.name] = _less(part.value)
        if part.path not in fields:
            fields.append(part.path)
        body = orjson.dumps(message)
    return body


class _Part(NamedTuple):
    """A part that can be made smaller: the object that holds it, its name there and its path."""

    holder: dict[str, Any]
    name: str
    path: str

    @property
    def value(self) -> Any:
        return self.holder[self.name]


def _parts(data: dict[str, Any]) -> list[_Part]:
    parts = [_Part(data, name, name) for name in ("images", "attempts", "warnings", "metadata")]
    for path in ("request", "image", "error"):
        holder = data.get(path) or {}
        parts += [_Part(holder, name, f"{path}.{name}") for name in holder]
    return [part for part in parts if part.name in part.holder and _can_be_less(part)]


def _can_be_less(part: _Part) -> bool:
    if isinstance(part.value, str):  # half a link opens nothing
        return len(part.value) > _LONGEST_SHOWN and part.name != "url"
    return isinstance(part.value, list | dict) and len(part.value) > 0


def _less(value: Any) -> Any:
    match value:
        case str():
            return value[: max(len(value) // 2, _LONGEST_SHOWN)]
        case list():
            return value[: -max(len(value) // 8, 1)]
    return {}


def _iso(moment: float) -> str:
    stamp = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")
