"""Results: what an upstream sent, measured, put into the format that was asked, and kept.

An upstream is as foreign as any uploader. Its bytes are walked and measured before they count as an
image, and what they measure is compared with what was asked: a difference is a warning, never
silence.
"""

import hashlib
from dataclasses import dataclass

import structlog

from storage.container import inspect
from storage.errors import TooLarge, Unavailable
from storage.facts import BadImage, Facts, Limits
from storage.failure import Failure, FailureCode
from storage.image import Image, ImageStatus
from storage.job import Job
from storage.objects import Objects, ObjectsRefused
from storage.request import Adaptation, Request
from worker.imaging import Imaging, ImagingFailed
from worker.outage import outlast
from worker.provider import Picture


log = structlog.get_logger("worker.results")

_EXTENSIONS = {"image/jpeg": "jpg"}


@dataclass(frozen=True, slots=True)
class Kept:
    """One image in its final state, made or failed, and what differs from what was asked."""

    image: Image
    warnings: tuple[Adaptation, ...] = ()


class Results:
    """Inspects, converts and keeps what came back. `patience` is in seconds, for an outage."""

    def __init__(
        self, objects: Objects, imaging: Imaging, *, limits: Limits, patience: float
    ) -> None:
        self._objects = objects
        self._imaging = imaging
        self._limits = limits
        self._patience = patience

    async def keep(self, job: Job, index: int, attempt: int, outcome: Picture | Failure) -> Kept:
        """Return image `index` of the job as it ends: kept under a key, or failed and why."""
        if isinstance(outcome, Failure):
            return Kept(_failed(index, attempt, outcome))
        try:
            sent = outcome.data
            facts = inspect(sent, self._limits)
            if facts.trailing:  # what hides behind the end of an image is not handed on
                sent = sent[: -facts.trailing]
            data, facts = await self._converted(job.request, sent, facts)
        except (BadImage, TooLarge) as error:
            message = f"The upstream sent no usable image: {error.message}."
            failure = Failure(code=FailureCode.UPSTREAM_ERROR, message=message)
            return Kept(_failed(index, attempt, failure))
        key = key_of(job, index, attempt, facts.content_type)
        try:
            await outlast(
                lambda: self._objects.put(key, data, content_type=facts.content_type),
                patience=self._patience,
            )
        except (ObjectsRefused, Unavailable):  # refused, or away for longer than anybody waits
            message = "The image was made, but the object storage did not take it."
            failure = Failure(code=FailureCode.STORAGE_ERROR, message=message)
            return Kept(_failed(index, attempt, failure))
        image = Image(
            index=index,
            status=ImageStatus.SUCCEEDED,
            key=key,
            content_type=facts.content_type,
            width=facts.width,
            height=facts.height,
            bytes=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            attempt=attempt,
            revised_prompt=outcome.revised_prompt,
        )
        return Kept(image, _differences(job.request, facts))

    async def _converted(self, asked: Request, data: bytes, facts: Facts) -> tuple[bytes, Facts]:
        if asked.output_format in {None, facts.format}:
            return data, facts
        try:
            converted = await self._imaging.convert(
                data,
                format=asked.output_format or "png",
                compression=asked.output_compression,
                background=asked.background,
            )
        except ImagingFailed as error:  # it has been paid for: better as it came than not at all
            log.warning("not_converted", reason=error.reason)
            return data, facts
        return converted, inspect(converted, self._limits)


def key_of(job: Job, index: int, attempt: int, content_type: str) -> str:
    """Return where an image lies; the attempt keeps a late result from hiding a newer one."""
    extension = _EXTENSIONS.get(content_type, content_type.rpartition("/")[2])
    return f"{folder_of(job)}{attempt}/{index}.{extension}"


def folder_of(job: Job) -> str:
    """Return the folder in which all objects of a job lie, its inputs too."""
    return f"t/{job.tenant}/{job.id}/"


def _failed(index: int, attempt: int, failure: Failure) -> Image:
    return Image(index=index, status=ImageStatus.FAILED, attempt=attempt, error=failure)


def _differences(asked: Request, facts: Facts) -> tuple[Adaptation, ...]:
    """Compare what was asked with what was measured."""
    measured = f"{facts.width}x{facts.height}"
    differences = []
    if asked.size not in {None, "auto", measured}:
        differences.append(
            Adaptation(param="size", action="adapted", requested=asked.size, used=measured)
        )
    if asked.output_format not in {None, facts.format}:
        differences.append(
            Adaptation(
                param="output_format",
                action="adapted",
                requested=asked.output_format,
                used=facts.format,
            )
        )
    if asked.background == "transparent" and not facts.alpha:
        differences.append(
            Adaptation(param="background", action="adapted", requested="transparent", used="opaque")
        )
    return tuple(differences)
