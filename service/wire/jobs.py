"""The native door: a job as it is submitted."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictStr

from service.wire.fields import (
    Count,
    Extras,
    Flag,
    ModelName,
    Partials,
    Percent,
    Ratio,
    Seed,
    Size,
    Text,
    Word,
)
from service.wire.pictures import PictureField
from service.wire.renditions import Recipes


class Looks(Extras):
    """How the images of a job should be: the fields that say it, alike on every door."""

    model: ModelName | None = Field(None, description="A model of GET /v1/models")
    prompt: Text = Field(description="What to draw", examples=["a lighthouse at dusk"], repr=False)
    n: Count = Field(1, description="How many images")
    size: Size | None = Field(None, description='"auto" or "WIDTHxHEIGHT" in pixels')
    quality: Word | None = Field(None, description="low, medium, high, auto, standard, hd, …")
    background: Literal["auto", "opaque", "transparent"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Percent | None = Field(None, description="Quality of jpeg and webp, 0-100")
    style: Literal["vivid", "natural"] | None = None
    moderation: Literal["auto", "low"] | None = None
    input_fidelity: Literal["low", "high"] | None = None
    user: Annotated[StrictStr, Field(max_length=256)] | None = Field(
        None, description="Who asks, in the client's own words"
    )
    renditions: Recipes = Field(
        (), description='Further files of every image: "thumbnail", "web", or {name, width, …}'
    )
    provenance: Flag | None = Field(
        None, description="false leaves images unlabelled that the upstream did not sign"
    )


class JobRequest(Looks):
    """A job: a generation, or an edit when it comes with images."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "a lighthouse at dusk", "size": "1024x1024", "metadata": {"order": "7"}}
            ]
        }
    )

    aspect_ratio: Ratio | None = Field(None, description='"W:H", for models that think in ratios')
    resolution: Word | None = Field(None, description='A tier such as "2K"')
    seed: Seed | None = None
    negative_prompt: Text | None = Field(None, repr=False)
    watermark: Flag | None = None
    partial_images: Partials | None = Field(None, description="Previews to make on the way, 0-3")
    images: Annotated[tuple[PictureField, ...], Field(max_length=16)] = Field(
        (), description="The images to start from: URL, data URL, base64 or {file_id}"
    )
    mask: PictureField | None = Field(
        None, description="A PNG of the first image's size; where it is transparent, images change"
    )
    options: dict[StrictStr, Any] = Field(
        default_factory=dict, description="Passed to the provider as they are", repr=False
    )
