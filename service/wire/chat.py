"""Images through chat: OpenAI's chat completions as relays and gateways extend them.

OpenAI's own chat makes no images. Three ways to ask for one are in use, and all are understood: a
plain image model with text and `image_url` parts, `modalities` with "image", and a tool of the
type `image_generation`. The last two are not OpenAI's words, so their answers need not be either.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, StrictInt, StrictStr, Tag

from service.wire.fields import (
    Count,
    Extras,
    Flag,
    ModelName,
    Partials,
    Percent,
    Ratio,
    Size,
    Wire,
    Word,
)
from service.wire.pictures import MAX_TEXT, Picture


LOOSE = ConfigDict(extra="allow", frozen=True)
# No letter of what is found can begin another, so this takes linear time. Long images are marks.
_DRAWN: Final = re.compile(r"!\[image\]\((data:image/[\w+/=;,.-]+|\0image [0-9]{1,5})\)", re.ASCII)


def _url(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class Address(Wire):
    """Where an image is: an https URL or a data URL."""

    model_config = LOOSE

    url: Annotated[StrictStr, Field(min_length=1, max_length=MAX_TEXT)]


class Part(Wire):
    """One part of a message: text or an image; other parts are left alone."""

    model_config = LOOSE

    type: Annotated[StrictStr, Field(max_length=64)] = "text"
    text: StrictStr | None = Field(None, repr=False)
    image_url: (
        Annotated[Address, BeforeValidator(_url, json_schema_input_type=StrictStr | Address)] | None
    ) = Field(None, repr=False)
    file_id: StrictStr | None = None

    @property
    def picture(self) -> Picture | None:
        """Return the image that this part names, if it is one."""
        if self.image_url is not None:
            return Picture(image_url=self.image_url.url)
        if self.type == "input_image" and self.file_id is not None:
            return Picture(file_id=self.file_id)
        return None


def text_or_list(value: Any) -> str:
    """Say which form of a text-or-list a value has."""
    return "text" if isinstance(value, str) else "list"


Content = Annotated[
    Annotated[StrictStr, Tag("text")]
    | Annotated[tuple[Part, ...], Field(max_length=256), Tag("list")],
    Discriminator(text_or_list),
]


class Message(Wire):
    """One message of a conversation."""

    model_config = LOOSE

    role: Annotated[StrictStr, Field(max_length=32)]
    content: Content | None = Field(None, repr=False)
    content_parts: Annotated[tuple[Part, ...], Field(max_length=256)] | None = Field(
        None, repr=False
    )
    images: Annotated[tuple[Part, ...], Field(max_length=16)] | None = Field(None, repr=False)

    @property
    def text(self) -> str:
        """Return all that the message says."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or () if part.text)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Return every image of the message, each once, however often it is named."""
        parts = self.content if isinstance(self.content, tuple) else ()
        parts = (*parts, *(self.content_parts or ()), *(self.images or ()))
        found = [*self._drawn(), *(part.picture for part in parts)]
        unique = {picture.image_url or picture.file_id: picture for picture in found if picture}
        return tuple(unique.values())

    def _drawn(self) -> Iterator[Picture]:
        """Yield the images that an answer of ours has in its text."""
        if self.role == "assistant" and isinstance(self.content, str):
            for match in _DRAWN.finditer(self.content):
                yield Picture(image_url=match[1])


class ImageTool(Wire):
    """What the `image_generation` tool can be told."""

    model_config = LOOSE

    model: ModelName | None = None
    action: Literal["auto", "generate", "edit"] | None = None
    size: Size | None = None
    quality: Word | None = None
    background: Literal["auto", "opaque", "transparent"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Percent | None = None
    moderation: Literal["auto", "low"] | None = None
    input_fidelity: Literal["low", "high"] | None = None
    input_image_mask: Picture | None = None
    partial_images: Partials | None = None
    watermark: Flag | None = None


class Tool(ImageTool):
    """A tool; for images, its settings are beside its type or in an object of that name."""

    type: Annotated[StrictStr, Field(max_length=64)]
    image_generation: ImageTool | None = None


class ImageConfig(Wire):
    """OpenRouter's way to say what an image should be like."""

    model_config = LOOSE

    aspect_ratio: Ratio | None = None
    image_size: Word | None = None
    quality: Word | None = None
    size: Size | None = None
    background: Literal["auto", "opaque", "transparent"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None


class StreamOptions(Wire):
    """What a stream should say beside the answer."""

    model_config = LOOSE

    include_usage: Flag = False


class ChatRequest(Extras):
    """`POST /v1/chat/completions`."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "model": "sketch",
                    "messages": [{"role": "user", "content": "a lighthouse at dusk"}],
                    "modalities": ["image", "text"],
                }
            ]
        },
    )

    model: ModelName | None = Field(None, description="A model of GET /v1/models")
    messages: Annotated[tuple[Message, ...], Field(min_length=1, max_length=512)] = Field(
        description="The conversation; the last user message says what to draw", repr=False
    )
    modalities: Annotated[tuple[StrictStr, ...], Field(max_length=8)] | None = None
    tools: Annotated[tuple[Tool, ...], Field(max_length=128)] | None = None
    tool_choice: Any = None
    image_config: ImageConfig | None = None
    n: Count = 1
    size: Size | None = None
    quality: Word | None = None
    stream: Flag | None = None
    stream_options: StreamOptions | None = None
    max_tokens: StrictInt | None = None
    max_completion_tokens: StrictInt | None = None
    user: Annotated[StrictStr, Field(max_length=256)] | None = None

    @property
    def is_extended(self) -> bool:
        """Say whether it asks in words that OpenAI's own chat does not have."""
        by_modality = "image" in (self.modalities or ())
        return by_modality or self.image_config is not None or self.image_tool is not None

    @property
    def image_tool(self) -> ImageTool | None:
        """Return the settings of the image tool, if it is there."""
        return next(image_tools(self.tools or ()), None)


def image_tools(tools: tuple[Tool, ...]) -> Iterator[ImageTool]:
    """Yield the settings of each image tool."""
    for tool in tools:
        if tool.type == "image_generation":
            yield tool.image_generation or tool
