"""OpenAI's Responses, as far as they make images: the `image_generation` tool."""

from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, StrictStr, Tag

from service.wire.chat import LOOSE, Content, ImageTool, Tool, image_tools, text_or_list
from service.wire.fields import Extras, Flag, ModelName, Wire
from service.wire.pictures import MAX_TEXT, Picture


class Item(Wire):
    """One item of an input: a message, or a call of the image tool that was answered before."""

    model_config = LOOSE

    type: Annotated[StrictStr, Field(max_length=64)] | None = None
    id: Annotated[StrictStr, Field(max_length=128)] | None = None
    role: Annotated[StrictStr, Field(max_length=32)] = "assistant"
    content: Content | None = Field(None, repr=False)
    result: Annotated[StrictStr, Field(min_length=1, max_length=MAX_TEXT)] | None = Field(
        None, repr=False
    )

    @property
    def text(self) -> str:
        """Return all that the item says."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content or () if part.text)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Return every image of the item."""
        if self.type == "image_generation_call":
            if self.result is not None:
                return (Picture(image_url=self.result),)
            return () if self.id is None else (Picture(file_id=self.id),)
        parts = self.content if isinstance(self.content, tuple) else ()
        return tuple(picture for part in parts if (picture := part.picture) is not None)


class ResponseRequest(Extras):
    """`POST /v1/responses`."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "model": "sketch",
                    "input": "a lighthouse at dusk",
                    "tools": [{"type": "image_generation", "size": "1024x1024"}],
                }
            ]
        },
    )

    model: ModelName | None = Field(
        None, description="A model of GET /v1/models; a text model's name means the default"
    )
    input: Annotated[
        Annotated[StrictStr, Tag("text")]
        | Annotated[tuple[Item, ...], Field(min_length=1, max_length=512), Tag("list")],
        Discriminator(text_or_list),
    ] = Field(
        description="What to draw, or a conversation whose last user message says it", repr=False
    )
    tools: Annotated[tuple[Tool, ...], Field(max_length=128)] | None = None
    tool_choice: Any = None
    previous_response_id: Annotated[StrictStr, Field(max_length=64)] | None = Field(
        None, description="Whose images are edited further when the input has none"
    )
    background: Flag | None = Field(None, description="Answer at once; read the response later")
    stream: Flag | None = None
    store: Flag | None = None
    parallel_tool_calls: Flag | None = None
    include: Any = None
    user: Annotated[StrictStr, Field(max_length=256)] | None = None

    @property
    def image_tool(self) -> ImageTool:
        """Return the settings of the image tool; a request without it has none."""
        return next(image_tools(self.tools or ()), ImageTool())
