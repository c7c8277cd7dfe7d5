"""The built-in provider: it draws instead of asking anybody, needs no key and costs nothing.

It makes the first minute work, and tests and demonstrations honest: what comes out is a real image
of the asked size and format, an edit really changes the picture and nothing outside its mask, and
previews really come before the end. A seed that was not given is taken from the job, so that a job
which is run again after a crash gives the same pictures.
"""

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING

from storage.attempt import Usage
from storage.failure import Failure, FailureCode
from storage.request import Adaptation
from worker.imaging import BadImage, Drawing, Fault, ImagingFailed
from worker.provider import Order, Partial, Picture, Progress, ProviderError, Reply, Tools


if TYPE_CHECKING:
    from storage.catalog import Deployment


_SIDE = 1024
_BUSY = "The sketch provider has too much to draw."
_FAILED = "The sketch could not be drawn."


class Sketch:
    """Draws with `tools.imaging`; the words of a prompt only choose colours and shapes."""

    def __init__(self, deployment: "Deployment", api_key: str | None, tools: Tools) -> None:
        self._imaging = tools.imaging

    async def generate(self, order: Order, progress: Progress) -> Reply:
        """Draw the n pictures side by side; a picture that fails does not take the others along."""
        drawers = [
            asyncio.create_task(self._picture(order, index, progress)) for index in range(order.n)
        ]
        try:
            outcomes = await asyncio.gather(*drawers)
        finally:
            for drawer in drawers:
                drawer.cancel()
        failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        if len(failures) == len(outcomes):
            raise ProviderError(failures[0].message, code=failures[0].code, cost=0.0)
        return Reply(
            outcomes=tuple(outcomes),
            usage=Usage(images=len(outcomes) - len(failures)),
            cost=0.0,
            adaptations=_adaptations(order),
        )

    async def _picture(self, order: Order, index: int, progress: Progress) -> Picture | Failure:
        try:
            await self._preview(order, index, progress)
            return Picture(data=await self._draw(order, index, 1.0))
        except BadImage as error:
            return Failure(code=FailureCode.INVALID_IMAGE, message=error.message)
        except ImagingFailed as error:
            if error.reason is Fault.BUSY:
                return Failure(code=FailureCode.OVERLOADED, message=_BUSY)
            return Failure(code=FailureCode.UPSTREAM_ERROR, message=_FAILED)

    async def _preview(self, order: Order, index: int, progress: Progress) -> None:
        """Show the same picture from very coarse to half as fine as it will be."""
        count = order.partial_images or 0
        for sequence in range(count):
            data = await self._draw(order, index, 0.5 ** (count - sequence))
            await progress.previewed(Partial(index=index, sequence=sequence, data=data))

    async def _draw(self, order: Order, index: int, detail: float) -> bytes:
        drawing = Drawing(
            prompt=order.prompt,
            seed=_seed(order),
            index=order.first_index + index,
            width=order.width or (None if order.edit else _SIDE),
            height=order.height or (None if order.edit else _SIDE),
            format=order.output_format or "png",
            compression=order.output_compression,
            background=order.background,
            quality=order.quality,
            detail=detail,
        )
        if not order.edit:
            return await self._imaging.render(drawing)
        mask = None if order.mask is None else order.mask.data
        return await self._imaging.edit(drawing, [image.data for image in order.images], mask)


def _seed(order: Order) -> int:
    if order.seed is not None:
        return order.seed
    return int.from_bytes(sha256(order.job_id.encode()).digest()[:4])


def _adaptations(order: Order) -> tuple[Adaptation, ...]:
    """Name the one thing that cannot be had: transparency in a JPEG."""
    if order.background == "transparent" and order.output_format == "jpeg":
        return (
            Adaptation(
                param="background", action="adapted", requested="transparent", used="opaque"
            ),
        )
    return ()
