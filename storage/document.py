"""The document of a job: the JSON in which the API, the lists and the webhooks show it.

It stands here because both processes say it: the service when a job is read, the worker when a
webhook is sent. Links are signed at that moment and never kept. Times are whole Unix seconds, money
is USD, sizes are pixels and bytes.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeAlias

from storage.attempt import Attempt, Cost, CostSource, Usage
from storage.failure import Failure
from storage.image import Image, ImageStatus
from storage.job import Job
from storage.objects import Link, Objects
from storage.rendition import Recipe, Rendition, RenditionStatus
from storage.request import Adaptation, Input, Request


LINK_LIFETIME = 900.0
LONGEST_LINK = 86_400.0

_HIDDEN = {"prompt", "negative_prompt"}
_SHOWN = tuple(
    f.name
    for f in fields(Request)
    if f.name not in {"images", "mask", "options", "n", "renditions"}
)

# An image by its index, one of its renditions by index and name.
Linked: TypeAlias = int | tuple[int, str]


def link_of(
    job: Job,
    image: Image,
    file: Image | Rendition,
    objects: Objects,
    now: float,
    *,
    lifetime: float = LINK_LIFETIME,
) -> Link:
    """Sign a fresh link to an image that was made, or to one of its renditions."""
    name = image.filename if isinstance(file, Image) else image.filename_of(file)
    return objects.link(
        file.key or "",
        content_type=file.content_type or "application/octet-stream",
        filename=f"{job.id}-{name}",
        lifetime=lifetime,
        now=now,
    )


def links_of(
    job: Job, objects: Objects, now: float, *, lifetime: float = LINK_LIFETIME
) -> dict[Linked, Link]:
    """Sign a fresh link for each image that was made, and for each of its renditions."""
    links: dict[Linked, Link] = {}
    for image in job.images:
        if image.status is ImageStatus.SUCCEEDED and image.key is not None:
            links[image.index] = link_of(job, image, image, objects, now, lifetime=lifetime)
            for one in image.ready:
                links[image.index, one.name] = link_of(
                    job, image, one, objects, now, lifetime=lifetime
                )
    return links


def job_document(
    job: Job,
    links: Mapping[Linked, Link],
    *,
    with_prompt: bool = True,
    queue_position: int | None = None,
) -> dict[str, Any]:
    """Return the JSON of a job, without its prompt where it goes to a receiver of webhooks."""
    shown = {
        "id": job.id,
        "object": "job",
        "type": job.type,
        "status": job.status,
        "model": job.model,
        "created_at": int(job.created_at),
        "started_at": _whole(job.started_at),
        "finished_at": _whole(job.finished_at),
        "queue_position": queue_position,
        "eta": None,
        "n": job.request.n,
        "request": _request(job.request, with_prompt=with_prompt),
        "images": [
            image_document(job, image, links, with_prompt=with_prompt) for image in job.images
        ],
        "attempts": [_attempt(attempt) for attempt in job.attempts],
        "usage": usage_document(job.usage),
        "cost": cost_of(job),
        "warnings": [warning_document(warning) for warning in job.warnings],
        "error": failure_document(job.error),
        "metadata": dict(job.metadata),
        "webhook_url": job.webhook_url,
    }
    return shown if job.batch is None else {**shown, "batch": job.batch}


def failure_document(failure: Failure | None) -> dict[str, str] | None:
    """Return the JSON of a failure, or None."""
    return None if failure is None else {"code": failure.code, "message": failure.message}


def usage_document(usage: Usage | None) -> dict[str, int] | None:
    """Return the JSON of a count, without what was not counted, or None."""
    if usage is None:
        return None
    counts = {f.name: getattr(usage, f.name) for f in fields(Usage)}
    return {name: count for name, count in counts.items() if count is not None}


def cost_document(cost: Cost) -> dict[str, Any]:
    """Return the JSON of a sum of money; the amount of an unknown one is null."""
    return {"amount": cost.amount, "currency": "USD", "source": cost.source}


def cost_of(job: Job) -> dict[str, Any]:
    """Return the JSON of what a job cost; what is not wholly known says how much is at risk."""
    cost = job.cost
    shown = cost_document(cost)
    is_known = cost.source is not CostSource.UNKNOWN or not job.attempts
    return shown if is_known else {**shown, "at_risk": job.at_risk}


def warning_document(warning: Adaptation) -> dict[str, Any]:
    """Return the JSON of a parameter that was not applied as asked."""
    shown: dict[str, Any] = {
        "param": warning.param,
        "action": warning.action,
        "requested": warning.requested,
    }
    return shown if warning.action == "dropped" else {**shown, "used": warning.used}


def _request(request: Request, *, with_prompt: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        name: value
        for name in _SHOWN
        if (value := getattr(request, name)) is not None and (with_prompt or name not in _HIDDEN)
    }
    if request.images:
        shown["images"] = [_input(image) for image in request.images]
    if request.mask is not None:
        shown["mask"] = _input(request.mask)
    if request.renditions:
        shown["renditions"] = [recipe_document(recipe) for recipe in request.renditions]
    if request.options and with_prompt:  # whole prompts ride in them
        shown["options"] = dict(request.options)
    return shown


def _input(given: Input) -> dict[str, Any]:
    """Show what an input measured; neither its key nor its URL, which may carry a signature."""
    facts = {
        "content_type": given.content_type,
        "width": given.width,
        "height": given.height,
        "bytes": given.bytes,
        "sha256": given.sha256,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def recipe_document(recipe: Recipe) -> dict[str, Any]:
    """Return the JSON of a recipe, without what it leaves open."""
    asked = {f.name: getattr(recipe, f.name) for f in fields(Recipe)}
    return {name: value for name, value in asked.items() if value is not None}


def image_document(
    job: Job, image: Image, links: Mapping[Linked, Link], *, with_prompt: bool = True
) -> dict[str, Any]:
    """Return the JSON of one of the job's images, with the links that are there."""
    if image.status is not ImageStatus.SUCCEEDED:
        shown: dict[str, Any] = {"index": image.index, "status": image.status}
        return shown if image.error is None else {**shown, "error": failure_document(image.error)}
    shown = {
        "index": image.index,
        "status": image.status,
        **_file(image, links.get(image.index)),
        "revised_prompt": image.revised_prompt if with_prompt else None,
        "provenance": provenance_document(job, image),
    }
    if image.renditions:
        shown["renditions"] = [
            rendition_document(one, links.get((image.index, one.name))) for one in image.renditions
        ]
        shown["blurhash"] = image.blurhash
        shown["dominant_color"] = image.dominant_color
    return shown


def rendition_document(rendition: Rendition, link: Link | None) -> dict[str, Any]:
    """Return the JSON of a rendition, made or not."""
    shown: dict[str, Any] = {"name": rendition.name, "status": rendition.status}
    if rendition.status is RenditionStatus.SUCCEEDED:
        return {**shown, **_file(rendition, link)}
    if rendition.error is not None:
        shown["error"] = failure_document(rendition.error)
    return shown


def provenance_document(job: Job, image: Image) -> dict[str, Any] | None:
    """Return the JSON of where an image comes from; None for one that was made before it was."""
    known = image.provenance
    if known is None:
        return None
    attempt = next((a for a in job.attempts if a.number == image.attempt), None)
    return {
        "model": job.model,
        "deployment": None if attempt is None else attempt.deployment,
        "provider": None if attempt is None else attempt.provider,
        "created_at": int(known.created_at),
        "job": job.id,
        "sha256": image.sha256,
        "c2pa": "signed" if known.c2pa else "absent",
        "label": known.label,
        "synthid": "claimed" if known.synthid else "unknown",
    }


def _file(made: Image | Rendition, link: Link | None) -> dict[str, Any]:
    return {
        "url": None if link is None else link.url,
        "url_expires_at": None if link is None else int(link.expires_at),
        "content_type": made.content_type,
        "width": made.width,
        "height": made.height,
        "bytes": made.bytes,
        "sha256": made.sha256,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "deployment": attempt.deployment,
        "provider": attempt.provider,
        "upstream_id": attempt.upstream_id,
        "status": attempt.status,
        "started_at": int(attempt.started_at),
        "finished_at": _whole(attempt.finished_at),
        "cost": attempt.cost.amount,
        "cost_source": attempt.cost.source,
        "at_risk": attempt.at_risk,
        "usage": usage_document(attempt.usage),
        "error": failure_document(attempt.error),
    }


def _whole(moment: float | None) -> int | None:
    return None if moment is None else int(moment)
