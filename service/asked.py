"""What a request asks in a small JSON body, where there may be none at all."""

from typing import TypeVar

from pydantic import BaseModel

from service.body import read_json_or_nothing
from service.context import Call
from service.wire.fields import read


M = TypeVar("M", bound=BaseModel)


async def asked(call: Call, model: type[M]) -> M:
    """Return the JSON body as the model has it; no body at all is an empty one."""
    body = await read_json_or_nothing(call.request, call.context.settings.limits)
    return read(model, body.fields)
