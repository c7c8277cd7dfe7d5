"""Files: images that are brought before any job, by OpenAI's form or to a link of their own."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StrictInt, StrictStr

from service.wire.fields import Wire
from storage.file import Purpose


class ExpiresAfter(Wire):
    """When a file is forgotten: so many seconds after it was made."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[StrictInt, Field(ge=3600, le=2_592_000)]


class FileRequest(Wire):
    """`POST /v1/files` as a form, with the image in `file`."""

    purpose: Literal[Purpose.VISION, Purpose.USER_DATA, Purpose.BATCH] = Field(
        description="What the file is for"
    )
    expires_after: ExpiresAfter | None = None


class UploadRequest(FileRequest):
    """`POST /v1/files` as JSON: announces an image, which is then put to the link of the answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "filename": "photo.png",
                    "purpose": "vision",
                    "bytes": 31_000_000,
                    "content_type": "image/png",
                }
            ]
        }
    )

    filename: Annotated[StrictStr, Field(min_length=1, max_length=256)]
    bytes: Annotated[StrictInt, Field(ge=1, le=1_073_741_824)]
    content_type: Literal["image/png", "image/jpeg", "image/webp"]
