"""Webhooks: an endpoint as it is registered and changed, and what is asked of the log."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictStr,
    model_validator,
)

from service.wire.fields import Wire
from storage.event import ENDINGS, EVENTS, MESSAGES, WILDCARDS
from storage.keyring import LONGEST_OVERLAP


_PATTERNS = frozenset({*EVENTS, *WILDCARDS})


def _patterns(value: tuple[str, ...]) -> tuple[str, ...]:
    if not _PATTERNS.issuperset(value):
        raise ValueError(f"must be some of {', '.join(sorted(_PATTERNS))}")
    return tuple(dict.fromkeys(value))


def _message(value: str) -> str:
    if value not in MESSAGES:
        raise ValueError("must be the type of a message, such as job.succeeded")
    return value


def _plain(value: str) -> str:
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
        raise ValueError("must not hold control characters")
    return value


Url = Annotated[StrictStr, Field(min_length=1, max_length=2048)]
Patterns = Annotated[
    tuple[StrictStr, ...], Field(min_length=1, max_length=32), AfterValidator(_patterns)
]
Description = Annotated[StrictStr, Field(max_length=256), AfterValidator(_plain)]
Name = Annotated[StrictStr, Field(min_length=1, max_length=64)]
Message = Annotated[
    StrictStr, AfterValidator(_message), Field(json_schema_extra={"enum": [*MESSAGES]})
]
Moment = Annotated[StrictFloat, Field(ge=0, lt=1e12, allow_inf_nan=False)]


def _example(**fields: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [fields]})


class EndpointRequest(Wire):
    """A webhook endpoint to register."""

    model_config = _example(url="https://example.com/hooks", events=["job.*"], description="shop")

    url: Url = Field(description="Where messages are posted to, over https")
    events: Patterns = Field(ENDINGS, description="What is told; * and job.* stand for all")
    description: Description = Field("", description="A name for people")
    include_prompt: StrictBool = Field(
        default=False, description="Show prompts, and what upstreams made of them, in messages"
    )


class EndpointChange(Wire):
    """What is to change of a webhook endpoint; the rest stays."""

    model_config = _example(events=["job.succeeded", "job.failed"])

    url: Url | None = None
    events: Patterns | None = None
    description: Description | None = None
    include_prompt: StrictBool | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("needs at least one field")
        if any(getattr(self, name) is None for name in self.model_fields_set):
            raise ValueError("must not be null")
        return self


class RotationRequest(Wire):
    """A secret to be replaced."""

    model_config = _example(overlap=86_400)

    overlap: Annotated[StrictFloat, Field(ge=0, le=LONGEST_OVERLAP, allow_inf_nan=False)] = Field(
        LONGEST_OVERLAP, description="Seconds for which the old secret goes on signing beside"
    )


class Nothing(Wire):
    """A request that says nothing but its address."""

    model_config = _example()


class ReplayRequest(Wire):
    """A range of deliveries to be sent again."""

    model_config = _example(only="failed", created_after=1_800_000_000)

    endpoint: Name | None = Field(None, description="Only those to this endpoint")
    type: Message | None = Field(None, description="Only those of this event")
    only: Literal["failed", "all"] = Field(
        "failed", description="failed: what no receiver took; all: what was delivered, too"
    )
    created_after: Moment | None = Field(None, description="Unix seconds, included")
    created_before: Moment | None = Field(None, description="Unix seconds, excluded; default: now")
