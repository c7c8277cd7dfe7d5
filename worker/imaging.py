"""Pixels, worked on where they cannot hurt: in child processes with limits.

A decoder fed with hostile bytes may take a gigabyte, a minute, or the whole process with it, and
even an honest one would keep the event loop from renewing leases. So every pixel is touched in a
child that may not take more memory or CPU time than it is given, is killed when it takes too long,
and is replaced when it dies. Children start when there is work and end when there is none.

Why not a library's pool: those for Python hand every child the environment with its API keys,
unpickle whatever a child that read hostile bytes sends back, and are broken for good when a child
is killed while it rests. A socket per child, JSON and raw bytes need less code than mending that.
"""

import asyncio
import os
from collections.abc import Coroutine, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from storage.facts import BadImage, Limits
from storage.rendition import Recipe
from worker.child import Child, Fault, ImagingFailed, Terms
from worker.pixels.drawing import Drawing


__all__ = [
    "BadImage",
    "Decoded",
    "Drawing",
    "Fault",
    "Imaging",
    "ImagingFailed",
    "Rendered",
    "Terms",
]

# A child is ended after so many calls, so that what a decoder leaks has an end too.
_CALLS_OF_A_LIFE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What a full decode shows: the size as displayed, and whether any pixel is see-through."""

    width: int
    height: int
    transparent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The files of an image's renditions, in the order of their recipes, and its looks in short."""

    files: tuple[bytes, ...] = field(repr=False)
    blurhash: str
    dominant_color: str


class Imaging:
    """The door to the pixels.

    At most `children` processes work at once, by default one per core up to four; up to `waiting`
    calls wait for one, none longer than `patience` seconds. A call is killed after `terms.wall`
    seconds; a child without work ends after `idle` seconds. `limits` hold for every image read.

    Every method raises `BadImage` when the bytes given are at fault, and `ImagingFailed` when no
    answer came; the work of a call that is cancelled is killed. Image formats are "png", "jpeg" and
    "webp"; `compression` is the quality, 0 to 100, of the latter two. Metadata never survives.
    """

    def __init__(
        self,
        *,
        children: int | None = None,
        waiting: int = 256,
        patience: float = 60.0,
        idle: float = 15.0,
        limits: Limits | None = None,
        terms: Terms | None = None,
    ) -> None:
        self._slots = asyncio.Semaphore(children or min(4, len(os.sched_getaffinity(0))))
        self._waiting = waiting
        self._patience = patience
        self._idle_seconds = idle
        self._limits = asdict(limits or Limits(bytes=64_000_000))
        self._terms = terms or Terms()
        self._idle: dict[Child, asyncio.TimerHandle] = {}
        self._busy: set[Child] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._queue = 0
        self._closed = False

    async def decode_check(self, data: bytes) -> Decoded:
        """Decode every pixel and say what is seen."""
        meta, _ = await self._ask("decode_check", [data], limits=self._limits)
        return Decoded(**meta)

    async def convert(
        self,
        data: bytes,
        *,
        format: str,  # noqa: A002 — the field's own word
        compression: int | None = None,
        background: str | None = None,
        words: str | None = None,
    ) -> bytes:
        """Return the image in another format; an "opaque" `background`, and JPEG, lie on white.

        `words` are drawn into a corner.
        """
        return await self._one(
            "convert",
            [data],
            format=format,
            compression=compression,
            background=background,
            words=words,
            limits=self._limits,
        )

    async def renditions(self, data: bytes, recipes: Sequence[Recipe]) -> Rendered:
        """Return the image in each of the ways that the recipes say, decoded once."""
        meta, files = await self._ask(
            "renditions", [data], recipes=[asdict(one) for one in recipes], limits=self._limits
        )
        return Rendered(files=tuple(files), **meta)

    async def normalise_input(self, data: bytes) -> bytes:
        """Return the image as PNG in RGB or RGBA of 8 bits, sRGB, upright, without metadata."""
        return await self._one("normalise_input", [data], limits=self._limits)

    async def resize(
        self,
        data: bytes,
        *,
        width: int,
        format: str,  # noqa: A002 — the field's own word
        compression: int | None = None,
    ) -> bytes:
        """Return the image `width` pixels wide and in proportion; it is never enlarged."""
        return await self._one(
            "resize",
            [data],
            width=width,
            format=format,
            compression=compression,
            limits=self._limits,
        )

    async def mask_to_white(self, mask: bytes) -> bytes:
        """Turn a mask whose alpha 0 marks what may change into a grey PNG where white does."""
        return await self._one("mask_to_white", [mask], limits=self._limits)

    async def white_to_mask(self, white: bytes) -> bytes:
        """Turn a black and white mask whose white may change into a PNG where alpha 0 does."""
        return await self._one("white_to_mask", [white], limits=self._limits)

    async def check_mask(self, mask: bytes, width: int, height: int) -> None:
        """Raise `BadImage` unless the mask has this size, and alpha that lets something change."""
        await self._ask("check_mask", [mask], width=width, height=height, limits=self._limits)

    async def render(self, drawing: Drawing) -> bytes:
        """Draw a sketch of a given width and height."""
        return await self._one("render", [], drawing=asdict(drawing))

    async def edit(self, drawing: Drawing, images: Sequence[bytes], mask: bytes | None) -> bytes:
        """Sketch over the first image, with the others worked in.

        With a mask, pixels whose mask alpha is above 0 stay exactly as they were, as far as the
        format keeps them and no other size is asked.
        """
        return await self._one(
            "edit",
            [*images, *([] if mask is None else [mask])],
            masked=mask is not None,
            drawing=asdict(drawing),
            limits=self._limits,
        )

    async def close(self) -> None:
        """End all children, also those at work, and wait until they are gone."""
        self._closed = True
        for child in list(self._idle):
            self._end(child)
        for child in self._busy:
            child.kill()  # whoever asks it sees it die, and ends it
            self._watch(child.gone())
        while self._ending:
            done, _ = await asyncio.wait(list(self._ending), timeout=5.0)
            if not done:
                return

    async def _one(self, call: str, blobs: Sequence[bytes], **params: Any) -> bytes:
        _, (data,) = await self._ask(call, blobs, **params)
        return data

    async def _ask(
        self, call: str, blobs: Sequence[bytes], **params: Any
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Wait for a child, let it do `call`, and keep it only if it answered."""
        await self._enter()
        try:
            child = await self._take()
            try:
                answer = await child.ask(call, params, blobs)
            except BadImage:
                self._keep(child)
                raise
            except BaseException:
                self._end(child)
                raise
            self._keep(child)
            return answer
        finally:
            self._slots.release()

    async def _enter(self) -> None:
        if self._closed:
            raise ImagingFailed(Fault.CLOSED)
        if self._queue >= self._waiting:
            raise ImagingFailed(Fault.BUSY)
        self._queue += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._slots.acquire()
        except TimeoutError:
            raise ImagingFailed(Fault.BUSY) from None
        finally:
            self._queue -= 1

    async def _take(self) -> Child:
        """Return the child that rested last, so that the others can end, or a new one."""
        while self._idle:
            child, timer = self._idle.popitem()
            timer.cancel()
            if child.alive:
                self._busy.add(child)
                return child
            self._end(child)
        if self._closed:
            raise ImagingFailed(Fault.CLOSED)
        child = await Child.start(self._terms)
        if self._closed:
            self._end(child)
            raise ImagingFailed(Fault.CLOSED)
        self._busy.add(child)
        return child

    def _keep(self, child: Child) -> None:
        self._busy.discard(child)
        if self._closed or child.calls >= _CALLS_OF_A_LIFE:
            self._end(child)
            return
        timer = asyncio.get_running_loop().call_later(self._idle_seconds, self._end, child)
        self._idle[child] = timer

    def _end(self, child: Child) -> None:
        self._busy.discard(child)
        timer = self._idle.pop(child, None)
        if timer is not None:
            timer.cancel()
        self._watch(child.end())

    def _watch(self, end: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(end)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
