"""OpenAI's image doors: generations and edits, with what Darkroom adds."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from service.wire.fields import Flag, Partials
from service.wire.jobs import Looks
from service.wire.pictures import PictureField


class Compatible(Looks):
    """What all of OpenAI's image doors share. A field that is not known is ignored, and said so."""

    model_config = ConfigDict(extra="allow", frozen=True)

    response_format: Literal["url", "b64_json"] | None = None
    partial_images: Partials | None = None
    stream: Flag | None = None


class GenerationRequest(Compatible):
    """`POST /v1/images/generations`."""


class EditRequest(Compatible):
    """`POST /v1/images/edits` as JSON; as a form, the images are files."""

    images: Annotated[tuple[PictureField, ...], Field(min_length=1, max_length=16)]
    mask: PictureField | None = None
