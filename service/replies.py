"""What a job made, in the words that OpenAI's doors share."""

from typing import Any, Final

import pybase64

from storage.attempt import Usage
from storage.document import cost_of, warning_document
from storage.errors import Missing
from storage.image import Image, ImageStatus
from storage.job import Job
from storage.objects import Objects


QUALITIES: Final = frozenset({"low", "medium", "high", "xhigh", "max"})
BACKGROUNDS: Final = frozenset({"transparent", "opaque"})
_NO_TOKENS: Final = Usage(input_tokens=0, output_tokens=0)


def made(job: Job) -> list[Image]:
    """Return the images that were made."""
    return [image for image in job.images if image.status is ImageStatus.SUCCEEDED]


async def encoded(objects: Objects, image: Image) -> bytes:
    """Return an image's bytes in base64; raises `Missing` when they are gone."""
    data = await objects.get(image.key or "", limit=image.bytes or 0)
    if data is None or len(data) != image.bytes:
        raise Missing("The image is gone.", code="image_not_found")
    return pybase64.b64encode(data)


async def data_url(objects: Objects, image: Image) -> str:
    """Return an image as a data URL."""
    content = (await encoded(objects, image)).decode("ascii")
    return f"data:{image.content_type};base64,{content}"


def used(job: Job, param: str) -> Any:
    """Return a parameter as it was applied, as far as is known."""
    for warning in job.warnings:
        if warning.param == param:
            return warning.used
    return getattr(job.request, param)


def looks(job: Job) -> dict[str, Any]:
    """Return what OpenAI's replies echo, without what is not known or not in their words."""
    first = next(iter(made(job)), None)
    known: dict[str, Any] = {}
    if (background := used(job, "background")) in BACKGROUNDS:
        known["background"] = background
    if (quality := used(job, "quality")) in QUALITIES:
        known["quality"] = quality
    if first is not None:
        known["output_format"] = format_of(first)
        known["size"] = f"{first.width}x{first.height}"
    return known


def extras(job: Job) -> dict[str, Any]:
    """Return what Darkroom adds to a reply of OpenAI's."""
    return {
        "job_id": job.id,
        "model": job.model,
        "cost": cost_of(job),
        "warnings": [warning_document(warning) for warning in job.warnings],
    }


def format_of(image: Image) -> str:
    """Return "png", "jpeg" or "webp"."""
    return (image.content_type or "").rpartition("/")[2]


def usage_of(usage: Usage | None) -> dict[str, Any] | None:
    """Return a count in OpenAI's shape, or None when the upstream did not count tokens."""
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    image_in, text_out = usage.input_image_tokens or 0, usage.output_text_tokens or 0
    text_in, image_out = usage.input_text_tokens, usage.output_image_tokens
    total = usage.total_tokens
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "image_tokens": image_in,
            "text_tokens": usage.input_tokens - image_in if text_in is None else text_in,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {
            "image_tokens": usage.output_tokens - text_out if image_out is None else image_out,
            "text_tokens": text_out,
        },
        "total_tokens": usage.input_tokens + usage.output_tokens if total is None else total,
    }


def no_usage() -> dict[str, Any]:
    """Return a count of nothing, for those places of OpenAI's that cannot do without one."""
    return usage_of(_NO_TOKENS) or {}
