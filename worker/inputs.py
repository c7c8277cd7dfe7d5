"""Inputs: the images a job starts from, brought in and judged before anything is paid.

They lie under keys of ours, or behind a URL that only now is fetched, since the service dials
nobody.
"""

import asyncio

from storage.container import inspect
from storage.errors import TooLarge, Unavailable
from storage.facts import BadImage, Limits
from storage.failure import Failure, FailureCode
from storage.objects import Objects, ObjectsRefused
from storage.request import Input, Request
from worker.imaging import Fault, Imaging, ImagingFailed
from worker.provider import Source
from worker.web import Web, WebError


class BadInput(Exception):
    """An input cannot be used; `failure` is what the job ends with."""

    def __init__(self, message: str, code: FailureCode = FailureCode.INVALID_IMAGE) -> None:
        super().__init__(message)
        self.failure = Failure(code=code, message=message)


class Inputs:
    """Brings in what a request names. `timeout` is in seconds for one URL."""

    def __init__(
        self, objects: Objects, web: Web, imaging: Imaging, *, limits: Limits, timeout: float
    ) -> None:
        self._objects = objects
        self._web = web
        self._imaging = imaging
        self._limits = limits
        self._timeout = timeout

    async def of(self, request: Request) -> tuple[tuple[Source, ...], Source | None]:
        """Return the images in order, and the mask; raises `BadInput` or `Unavailable`."""
        sources = await asyncio.gather(
            *(self._source(given, f"image {at + 1}") for at, given in enumerate(request.images))
        )
        if request.mask is None:
            return tuple(sources), None
        mask = await self._source(request.mask, "mask")
        await self._refuse_bad_mask(mask, sources[0])
        return tuple(sources), mask

    async def _source(self, given: Input, name: str) -> Source:
        try:
            data = await self._bytes(given, name)
            facts = inspect(data, self._limits)
            if not facts.is_plain:  # turned by EXIF, or telling where it was taken
                data = await self._imaging.normalise_input(data)
                facts = inspect(data)
        except (BadImage, TooLarge) as error:
            raise BadInput(f"The {name} cannot be used: {error.message}.") from error
        except ImagingFailed as error:
            raise _not_judged(name, error) from error
        return Source(
            data=data,
            content_type=facts.content_type,
            filename=f"{name.replace(' ', '-')}.{facts.format}",
            width=facts.width,
            height=facts.height,
        )

    async def _bytes(self, given: Input, name: str) -> bytes:
        if given.key is not None:
            try:
                data = await self._objects.get(given.key, limit=self._limits.bytes)
            except ObjectsRefused as error:
                message = f"The object storage did not give the {name}."
                raise BadInput(message, FailureCode.STORAGE_ERROR) from error
            if data is None:
                raise BadInput(f"The {name} is no longer there.")
            return data
        try:
            answer = await self._web.fetch_foreign(
                given.url or "", limit=self._limits.bytes, timeout=self._timeout
            )
        except WebError as error:
            raise BadInput(f"The {name} could not be fetched: {error.message}") from error
        if answer.status != 200:
            raise BadInput(f"The {name} could not be fetched: status {answer.status}.")
        return answer.body

    async def _refuse_bad_mask(self, mask: Source, first: Source) -> None:
        try:
            await self._imaging.check_mask(mask.data, first.width, first.height)
        except BadImage as error:
            raise BadInput(f"The mask cannot be used: {error.message}.") from error
        except ImagingFailed as error:
            raise _not_judged("mask", error) from error


def _not_judged(name: str, error: ImagingFailed) -> BadInput | Unavailable:
    """Tell an image that is too much for us from a moment in which we had no hand free."""
    if error.reason in {Fault.TIMEOUT, Fault.MEMORY}:
        return BadInput(f"The {name} cannot be used: it takes too long or too much to decode.")
    return Unavailable("Images cannot be checked now.", retry_after=2.0)
