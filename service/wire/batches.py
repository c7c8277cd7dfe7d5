"""Batches, in OpenAI's words."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictStr

from service.wire.fields import Metadata, Wire


class BatchRequest(Wire):
    """`POST /v1/batches`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "input_file_id": "file-0123456789abcdef0123456789abcdef",
                    "endpoint": "/v1/images/generations",
                    "completion_window": "24h",
                }
            ]
        }
    )

    input_file_id: Annotated[StrictStr, Field(min_length=1, max_length=64)] = Field(
        description='A file of purpose "batch": one JSON object on each line'
    )
    endpoint: Literal["/v1/images/generations", "/v1/images/edits", "/v1/jobs"]
    completion_window: Annotated[
        StrictStr, Field(pattern=r"^(?:[1-9][0-9]?|1[0-5][0-9]|16[0-8])h$")
    ] = Field("24h", description='Hours until what has not begun is given up: "1h" to "168h"')
    metadata: Metadata = Field(default_factory=dict)
    webhook_url: Annotated[StrictStr, Field(max_length=2048)] | None = Field(
        None, description="Told once, when the batch has ended, by a signed POST"
    )


class BatchLine(Wire):
    """One line of a batch's input."""

    custom_id: Annotated[StrictStr, Field(min_length=1, max_length=256)]
    method: Literal["POST"] = "POST"
    url: Annotated[StrictStr, Field(max_length=64)]
    body: dict[StrictStr, Any]
