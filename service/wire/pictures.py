"""How an image is named in JSON: a URL, a data URL, base64, or a file that was uploaded before."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StrictStr, model_validator

from service.wire.fields import Wire


MAX_TEXT = 89_478_488  # characters of base64 for 64 MiB

Reference = Annotated[StrictStr, Field(min_length=1, max_length=MAX_TEXT)]


class Picture(Wire):
    """One image by exactly one of its names."""

    image_url: Reference | None = Field(None, description="An https URL or a data URL")
    file_id: Annotated[StrictStr, Field(min_length=1, max_length=64)] | None = Field(
        None, description="The id of an uploaded file"
    )

    @model_validator(mode="after")
    def _one_name(self) -> Self:
        if (self.image_url is None) == (self.file_id is None):
            raise ValueError("needs exactly one of image_url and file_id")
        return self


def _named(value: Any) -> Any:
    return {"image_url": value} if isinstance(value, str) else value


PictureField = Annotated[
    Picture, BeforeValidator(_named, json_schema_input_type=Reference | Picture)
]
