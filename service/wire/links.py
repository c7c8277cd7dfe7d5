"""Links to one image: how long they shall live, and to which of its files they lead."""

from typing import Annotated

from pydantic import ConfigDict, Field, StrictFloat, StrictStr

from service.wire.fields import Wire
from service.wire.renditions import NAME
from storage.objects import MAX_LIFETIME


class SignRequest(Wire):
    """`POST /v1/jobs/{id}/images/{index}/sign`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"expires_in": 86400}]})

    expires_in: Annotated[StrictFloat, Field(gt=0, le=MAX_LIFETIME, allow_inf_nan=False)] = Field(
        900.0, description="Seconds that the link shall live, a day at most"
    )
    rendition: Annotated[StrictStr, Field(pattern=NAME)] | None = Field(
        None, description="The name of a rendition, in place of the image itself"
    )
