"""A draft: what a door has understood of a request, before anything is decided or kept.

Every door ends here, whatever it speaks, and everything after it is the same for all doors.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.body import Body
from service.intake import Given
from service.wire.fields import Extras
from service.wire.jobs import JobRequest, Looks
from storage.errors import Invalid
from storage.request import Adaptation, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A request for images in our own words; its images and mask are given, but not kept yet.

    `door` tells apart who asks the same thing differently, for Idempotency-Key. `ignored` names the
    fields that this door does not know, `adapted` what it had to say in other words. `names` are
    the door's own names for fields that we call otherwise.
    """

    door: str
    model: str | None
    request: Request
    extras: Extras
    body: Body = field(repr=False)
    images: tuple[Given, ...] = ()
    mask: Given | None = None
    ignored: tuple[str, ...] = ()
    adapted: tuple[Adaptation, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def given(self) -> tuple[Given, ...]:
        """Return every image that came with the request, the mask last."""
        return self.images if self.mask is None else (*self.images, self.mask)

    @contextmanager
    def in_its_words(self) -> Iterator[None]:
        """Have what is refused inside named as the door names it."""
        try:
            yield
        except Invalid as error:
            error.param = self.names.get(error.param or "", error.param)
            raise

    def let_go(self) -> None:
        """Let go of all bytes: they have been kept, and the wait for the job can be long."""
        for given in self.given:
            given.discard()
        self.body.discard()


def request_of(ask: Looks) -> Request:
    """Return what a door's fields ask for, without the images."""
    return Request(
        prompt=ask.prompt,
        n=ask.n,
        size=ask.size,
        quality=ask.quality,
        background=ask.background,
        output_format=ask.output_format,
        output_compression=ask.output_compression,
        style=ask.style,
        moderation=ask.moderation,
        input_fidelity=ask.input_fidelity,
        user=ask.user,
        renditions=tuple(one.recipe for one in ask.renditions),
        provenance=ask.provenance,
    )


def request_of_job(ask: JobRequest) -> Request:
    """Return what the native door's fields ask for, without the images."""
    return Request(
        prompt=ask.prompt,
        n=ask.n,
        size=ask.size,
        aspect_ratio=ask.aspect_ratio,
        resolution=ask.resolution,
        quality=ask.quality,
        background=ask.background,
        output_format=ask.output_format,
        output_compression=ask.output_compression,
        style=ask.style,
        moderation=ask.moderation,
        input_fidelity=ask.input_fidelity,
        seed=ask.seed,
        negative_prompt=ask.negative_prompt,
        user=ask.user,
        watermark=ask.watermark,
        partial_images=ask.partial_images,
        renditions=tuple(one.recipe for one in ask.renditions),
        provenance=ask.provenance,
        options=ask.options,
    )
