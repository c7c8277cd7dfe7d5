"""OpenAI's image doors, and AIGNE Hub's, with what Darkroom adds."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from service.wire.fields import Count, Extras, Flag, ModelName, Partials, Size, Text
from service.wire.jobs import Looks
from service.wire.pictures import PictureField


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


class Compatible(Looks):
    """What OpenAI's image doors share. A field that is not known is ignored, and said so."""

    model_config = ConfigDict(extra="allow", frozen=True)

    response_format: Literal["url", "b64_json"] | None = Field(
        None, description="b64_json unless it is said"
    )
    partial_images: Partials | None = Field(None, description="Previews to stream, 0-3")
    stream: Flag | None = Field(None, description="Answer with server-sent events")


class GenerationRequest(Compatible):
    """`POST /v1/images/generations`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "a lighthouse at dusk", "size": "1024x1024"}]}
    )


class EditRequest(Compatible):
    """`POST /v1/images/edits` as JSON; as a form, the images are files."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "make it night", "images": [{"image_url": "https://example.com/a.png"}]}
            ]
        }
    )

    images: Annotated[tuple[PictureField, ...], Field(min_length=1, max_length=16)] = Field(
        description="The images to start from"
    )
    mask: PictureField | None = Field(
        None, description="Where it is transparent, the first image changes"
    )


class VariationRequest(Extras):
    """`POST /v1/images/variations`, a form with one file `image`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: ModelName | None = None
    n: Count = 1
    size: Size | None = None
    response_format: Literal["url", "b64_json"] | None = None
    user: Annotated[str, Field(max_length=256)] | None = None


class HubRequest(Looks):
    """`POST /api/images/generations` of AIGNE Hub: links by default, which live for an hour."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        json_schema_extra={"examples": [{"prompt": "a lighthouse at dusk", "n": 2}]},
    )

    prompt: Text = Field(description="What to draw", repr=False)
    response_format: Literal["url", "b64_json"] | None = Field(
        None, description="url unless it is said"
    )
    image: Annotated[
        tuple[PictureField, ...],
        BeforeValidator(_listed, json_schema_input_type=PictureField | list[PictureField]),
        Field(max_length=16),
    ] = Field((), description="One image to start from, or several: URL, data URL or base64")
