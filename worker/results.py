"""Results: what an upstream sent, measured, put into the format that was asked, and kept.

An upstream is as foreign as any uploader. Its bytes are walked and measured before they count as an
image, and what they measure is compared with what was asked: a difference is a warning, never
silence.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from storage.container import inspect
from storage.dialect import Capabilities
from storage.errors import TooLarge, Unavailable
from storage.facts import BadImage, Facts, Limits
from storage.failure import Failure, FailureCode
from storage.image import Image, ImageStatus
from storage.job import Job
from storage.objects import Objects, ObjectsRefused
from storage.provenance import Label, Provenance
from storage.rendition import CONVERTED, ORIGINAL
from storage.request import Adaptation, Request
from worker.imaging import Imaging, ImagingFailed
from worker.label import labelled
from worker.outage import outlast
from worker.provider import Picture
from worker.renditions import Renditions, extension_of


log = structlog.get_logger("worker.results")


@dataclass(frozen=True, slots=True)
class Kept:
    """One image in its final state, made or failed, and what differs from what was asked."""

    image: Image
    warnings: tuple[Adaptation, ...] = ()


@dataclass(frozen=True, slots=True)
class _File:
    data: bytes = field(repr=False)
    facts: Facts


@dataclass(frozen=True, slots=True)
class _Ready:
    """What is handed out, and what is kept beside it under a name of ours."""

    file: _File
    beside: tuple[str, _File] | None = None


class Results:
    """Inspects, converts, labels and keeps what came back.

    `patience` is in seconds, for an outage. With `label`, what the upstream did not sign is
    labelled as made by a model; `words` are what a visible mark says where the upstream cannot.
    """

    def __init__(
        self,
        objects: Objects,
        imaging: Imaging,
        *,
        limits: Limits,
        patience: float,
        label: bool = False,
        words: str = "AI generated",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._objects = objects
        self._imaging = imaging
        self._renditions = Renditions(objects, imaging, patience)
        self._limits = limits
        self._patience = patience
        self._label = label
        self._words = words
        self._clock = clock

    async def keep(
        self,
        job: Job,
        index: int,
        attempt: int,
        outcome: Picture | Failure,
        can: Capabilities | None = None,
    ) -> Kept:
        """Return image `index` of the job as it ends: kept under a key, or failed and why.

        `can` is what the deployment that made it does by itself.
        """
        if isinstance(outcome, Failure):
            return Kept(_failed(index, attempt, outcome))
        try:
            sent = self._read(outcome.data)
            ready = await self._ready(job.request, sent, can or Capabilities())
        except (BadImage, TooLarge) as error:
            message = f"The upstream sent no usable image: {error.message}."
            failure = Failure(code=FailureCode.UPSTREAM_ERROR, message=message)
            return Kept(_failed(index, attempt, failure))
        file, label = self._labelled(job.request, ready.file)
        facts = file.facts
        key = key_of(job, index, attempt, facts.content_type)
        try:
            await outlast(
                lambda: self._objects.put(key, file.data, content_type=facts.content_type),
                patience=self._patience,
            )
        except (ObjectsRefused, Unavailable) as error:  # or away for longer than anybody waits
            log.warning("result_not_kept", job=job.id, tenant=job.tenant, reason=error.message)
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
            bytes=len(file.data),
            sha256=hashlib.sha256(file.data).hexdigest(),
            attempt=attempt,
            revised_prompt=outcome.revised_prompt,
            provenance=Provenance(
                created_at=self._clock(),
                c2pa=facts.c2pa,
                label=label,
                synthid=can is not None and can.synthid,
            ),
        )
        image = await self._with_others(image, job.request, file, ready)
        return Kept(image, _differences(job.request, ready))

    def _read(self, data: bytes) -> _File:
        facts = inspect(data, self._limits)
        # What hides behind the end of an image is not handed on; a signature may speak of it.
        if facts.trailing and not facts.c2pa:
            data = data[: -facts.trailing]
        return _File(data, facts)

    async def _ready(self, asked: Request, sent: _File, can: Capabilities) -> _Ready:
        """Return what came as it is, or converted and with what it was beside it.

        A signed file is what is handed out, whatever else was asked.
        """
        converts = asked.output_format not in {None, sent.facts.format}
        marks = asked.watermark is True and not can.watermark
        if not (converts or marks):
            return _Ready(sent)
        try:
            data = await self._imaging.convert(
                sent.data,
                format=asked.output_format or _written_as(sent.facts),
                compression=asked.output_compression,
                background=asked.background,
                words=self._words if marks else None,
            )
        except ImagingFailed as error:  # it has been paid for: better as it came than not at all
            log.warning("not_converted", reason=error.reason)
            return _Ready(sent)
        made = _File(data, inspect(data, self._limits))
        return (
            _Ready(sent, (CONVERTED, made)) if sent.facts.c2pa else _Ready(made, (ORIGINAL, sent))
        )

    def _labels(self, asked: Request) -> bool:
        return self._label and asked.provenance is not False

    def _labelled(self, asked: Request, file: _File) -> tuple[_File, Label]:
        if file.facts.c2pa or not self._labels(asked):
            return file, Label.NONE
        data, label = labelled(file.data, file.facts)
        return _File(data, file.facts), label

    async def _with_others(self, image: Image, asked: Request, file: _File, ready: _Ready) -> Image:
        """Return the image with what is kept beside it."""
        labels = self._labels(asked)
        if ready.beside is not None:
            name, other = ready.beside
            kept = await self._renditions.kept(
                image, name, other.data, label=labels and name == CONVERTED
            )
            image = replace(image, renditions=(kept,))
        return await self._renditions.added(image, file.data, asked.renditions, label=labels)


def key_of(job: Job, index: int, attempt: int, content_type: str) -> str:
    """Return where an image lies; the attempt keeps a late result from hiding a newer one."""
    return f"{folder_of(job)}{attempt}/{index}.{extension_of(content_type)}"


def folder_of(job: Job) -> str:
    """Return the folder in which all objects of a job lie, its inputs too."""
    return f"t/{job.tenant}/{job.id}/"


def _written_as(facts: Facts) -> str:
    return facts.format if facts.format in {"png", "jpeg", "webp"} else "png"


def _failed(index: int, attempt: int, failure: Failure) -> Image:
    return Image(index=index, status=ImageStatus.FAILED, attempt=attempt, error=failure)


def _differences(asked: Request, ready: _Ready) -> tuple[Adaptation, ...]:
    """Compare what was asked with what was measured."""
    facts = ready.file.facts
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
    if asked.watermark and ready.beside is not None and ready.beside[0] == CONVERTED:
        differences.append(
            Adaptation(param="watermark", action="adapted", requested=True, used=CONVERTED)
        )
    return tuple(differences)
