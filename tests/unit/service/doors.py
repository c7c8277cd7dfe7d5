"""The doors that submit, as JSON and as forms: how each is asked, and where its fields are."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.unit.service.hostile import IMAGE, Field, file, text


URL: Final = f"data:image/png;base64,{IMAGE}"
EXTRAS: Final = (
    *("webhook_url", "webhook_events", "metadata", "priority", "start_within", "end_within"),
    *("strict", "max_cost", "on_unknown"),
)
LOOKS: Final = (
    *("model", "prompt", "n", "size", "quality", "background", "output_format", "style", "user"),
    *("output_compression", "moderation", "input_fidelity", "renditions", "provenance"),
)
OPENAI: Final = ("response_format", "partial_images", "stream")
NATIVE: Final = (
    *("aspect_ratio", "resolution", "seed", "negative_prompt", "watermark", "partial_images"),
    "options",
)
TOOL: Final = (
    *("size", "quality", "background", "output_format", "output_compression", "moderation"),
    *("input_fidelity", "partial_images", "watermark"),
)

# Why a field has no rows at a door.
IGNORED: Final = "the door does not have it: it is left out, and warnings say so"
NO_CHOICE: Final = "the native door answers with links, and has its events elsewhere"
IN_THE_TOOL: Final = "it is said in the tool, which is a door of its own here"


@dataclass(frozen=True)
class Door:
    """One door. `at` says where each field is, and `absent` why another one is not there.

    `blamed` is what an error names where it cannot say the place. `picture` and `mask` are where
    images are named in JSON, `spared` are rows that do not hold here and why, `rows` are its own,
    for places that no other door has, `unheeded` are fields that may hold anything. `is_closed`: it
    refuses fields that it does not know.
    """

    name: str
    path: str
    ask: Mapping[str, Any]
    at: Mapping[str, str]
    absent: Mapping[str, str]
    picture: str | None = None
    mask: str | None = None
    blamed: Mapping[str, str] = field(default_factory=dict)
    spared: Mapping[str, str] = field(default_factory=dict)
    rows: tuple[Field, ...] = ()
    unheeded: tuple[str, ...] = ()
    is_closed: bool = False
    is_many: bool = False

    def asking(self, place: str, value: Any) -> Any:
        """Return what the door is asked, with a value in one place; what leads there is made."""
        whole: dict[str, Any] = copy.deepcopy(dict(self.ask))
        here: Any = whole
        *steps, last = place.split(".")
        for step in steps:
            here = here[int(step)] if isinstance(here, list) else here.setdefault(step, {})
        here[int(last) if isinstance(here, list) else last] = value
        return [whole] if self.is_many else whole

    @property
    def asked(self) -> Any:
        """Return what the door is asked when nothing is wrong."""
        return [self.ask] if self.is_many else self.ask


@dataclass(frozen=True)
class FormDoor:
    """One door as it takes forms: its texts, and the name of its file."""

    path: str
    words: Mapping[str, str]
    image: str
    said: str
    at: tuple[str, ...]
    spared: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> bytes:
        """Return the texts of the form."""
        return b"".join(text(name, value) for name, value in self.words.items())

    def form(self, **words: str) -> bytes:
        """Return a whole form, with some texts said otherwise."""
        said = {**self.words, **words}
        parts = (text(name, value) for name, value in said.items())
        return b"".join((*parts, file(self.image), b"--B--\r\n"))


def own(*names: str) -> dict[str, str]:
    """Say that fields are at the top, under their own names."""
    return {name: name for name in names}


def no(why: str, *names: str) -> dict[str, str]:
    """Say why fields are not there."""
    return dict.fromkeys(names, why)


def _native(name: str, path: str, *, is_many: bool = False) -> Door:
    return Door(
        name=name,
        path=path,
        ask={"prompt": "x", "images": [IMAGE]},
        at=own(*LOOKS, *EXTRAS, *NATIVE),
        absent=no(NO_CHOICE, "stream", "response_format"),
        picture="images.0",
        mask="mask",
        is_closed=True,
        is_many=is_many,
    )


_PART: Final = {"type": "image_url", "image_url": {"url": URL}}
_CHAT_ROWS: Final = (
    Field("H17 text", "messages", "x"),
    Field("H17 number", "messages", [1], ".0"),
    Field("nobody speaks", "messages", []),
    Field("no user speaks", "messages", [{"role": "assistant", "content": "x"}]),
    Field("without a role", "messages", [{"content": "x"}], ".0.role"),
    Field("without words", "messages", [{"role": "user", "content": [_PART]}]),
    Field("nothing said", "messages", [{"role": "user", "content": None}]),
    Field("H18 513 messages", "messages", [{"role": "user", "content": "x"}] * 513),
    Field("H18 257 parts", "messages.0.content", [{"type": "text", "text": "x"}] * 257),
    Field("H58 17 images", "messages.0.images", [_PART | {"n": n} for n in range(17)]),
    Field("H17 number", "messages.0.content", 1),
    Field("H17 number", "messages.0.content.1.image_url", 5),
    Field("H43 empty", "messages.0.content.1.image_url.url", ""),
    Field("H17 text", "modalities", "image"),
    Field("H17 number", "modalities", [1], ".0"),
    Field("H17 text", "tools", "x"),
    Field("without a type", "tools", [{}], ".0.type"),
    Field(
        "H17 list",
        "tools",
        [{"type": "image_generation", "image_generation": []}],
        ".0.image_generation",
    ),
    Field("H17 list", "image_config", []),
    Field("H36 long", "model", "m" * 10_000),
    Field("H35 half", "size", "64x"),
    Field("H36 long", "quality", "q" * 65),
    Field("H17 text", "max_tokens", "4096"),
    Field("H17 fraction", "max_completion_tokens", 1.5),
    Field("H17 list", "stream_options", []),
    Field("H17 word", "stream_options", {"include_usage": "yes"}, ".include_usage"),
)
_RESPONSES_ROWS: Final = (
    Field("H17 number", "input", 1),
    Field("nothing", "input", []),
    Field("empty", "input", ""),
    Field("nobody asks", "input", [{"role": "assistant", "content": "x"}]),
    Field("without words", "input", [{"role": "user", "content": [{"type": "input_text"}]}]),
    Field("H18 513 items", "input", [{"role": "user", "content": "x"}] * 513),
    Field("H17 text", "tools", "x"),
    Field("without a type", "tools", [{}], ".0.type"),
    Field("H36 unknown", "tools.0.action", "paint"),
    Field("H36 long", "previous_response_id", "x" * 65),
    Field("H36 long", "model", "m" * 10_000),
    Field("H17 word", "background", "yes"),
    Field("H17 number", "store", 1),
    Field("H17 word", "parallel_tool_calls", "no"),
)


def _chat(name: str, path: str) -> Door:
    content = [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": URL}}]
    at = {
        **own("model", "n", "size", "quality", "user", "stream", *EXTRAS),
        "prompt": "messages.0.content.0.text",
        "aspect_ratio": "image_config.aspect_ratio",
        "resolution": "image_config.image_size",
    }
    tool = ("background", "output_format", "output_compression", "moderation", "input_fidelity")
    others = ("style", "renditions", "provenance", "response_format", "seed", "negative_prompt")
    return Door(
        name=name,
        path=path,
        ask={"messages": [{"role": "user", "content": content}]},
        at=at,
        absent={**no(IN_THE_TOOL, *tool), **no(IGNORED, *others, *NATIVE[4:])},
        picture="messages.0.content.1.image_url.url",
        blamed={"prompt": "messages", "picture": "messages.0"},
        rows=_CHAT_ROWS,
        unheeded=("tool_choice",),
    )


def _chat_tool(name: str, path: str) -> Door:
    plain = _chat(name, path)
    below = "tools.0.image_generation"
    at = {**plain.at, **{said: f"{below}.{said}" for said in ("model", *TOOL)}}
    return Door(
        name=name,
        path=path,
        ask={**plain.ask, "tools": [{"type": "image_generation", "image_generation": {}}]},
        at=at,
        absent={name: why for name, why in plain.absent.items() if name not in at},
        picture=plain.picture,
        mask=f"{below}.input_image_mask.image_url",
        blamed={**plain.blamed, "mask": "tools", "model": "model"},
        rows=plain.rows,
        unheeded=plain.unheeded,
    )


def _responses() -> Door:
    content = [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": URL}]
    at = {
        **own("user", "stream", *EXTRAS),
        "model": "tools.0.model",
        "prompt": "input.0.content.0.text",
        **{said: f"tools.0.{said}" for said in TOOL},
    }
    others = ("n", "style", "renditions", "provenance", "response_format")
    return Door(
        name="responses",
        path="/v1/responses",
        ask={
            "input": [{"role": "user", "content": content}],
            "tools": [{"type": "image_generation"}],
        },
        at=at,
        absent=no(IGNORED, *others, *NATIVE[:4], "options"),
        picture="input.0.content.1.image_url",
        mask="tools.0.input_image_mask.image_url",
        blamed={"prompt": "input", "picture": "input.0", "mask": "tools", "model": "model"},
        rows=_RESPONSES_ROWS,
        unheeded=("tool_choice", "include"),
    )


def _native_form(path: str, spared: Mapping[str, str]) -> FormDoor:
    return FormDoor(
        path=path,
        words={"prompt": "x"},
        image="image",
        said="prompt",
        at=(*LOOKS, *EXTRAS, *NATIVE),
        spared={"H59 no file": "without one it is a generation", **spared},
    )


_UNKNOWN_TO_OPENAI = ("aspect_ratio", "resolution", "seed", "negative_prompt", "watermark")

DOORS: Final = (
    _native("jobs", "/v1/jobs"),
    _native("an array of jobs", "/v1/jobs", is_many=True),
    replace(
        _native("quotes", "/v1/quotes"),
        spared={"H39 too little": "a quote is there to tell what it costs"},
    ),
    Door(
        name="generations",
        path="/v1/images/generations",
        ask={"prompt": "x"},
        at=own(*LOOKS, *EXTRAS, *OPENAI),
        absent=no(IGNORED, *_UNKNOWN_TO_OPENAI, "options"),
    ),
    Door(
        name="edits",
        path="/v1/images/edits",
        ask={"prompt": "x", "images": [{"image_url": URL}]},
        at=own(*LOOKS, *EXTRAS, *OPENAI),
        absent=no(IGNORED, *_UNKNOWN_TO_OPENAI, "options"),
        picture="images.0.image_url",
        mask="mask.image_url",
        blamed={"picture": "images.0", "mask": "mask"},
    ),
    Door(
        name="the hub",
        path="/api/images/generations",
        ask={"prompt": "x", "image": [URL], "model": "sketch"},
        at=own(*LOOKS, *EXTRAS, "response_format"),
        absent=no(IGNORED, *_UNKNOWN_TO_OPENAI, "options", "partial_images", "stream"),
        picture="image.0",
    ),
    _chat("chat", "/v1/chat/completions"),
    _chat_tool("chat with the tool", "/v1/chat/completions"),
    _chat("a gateway's chat", "/api/v1/chat/completions"),
    _chat_tool("a gateway's chat with the tool", "/api/v1/chat/completions"),
    _responses(),
)

FORM_DOORS: Final = (
    _native_form("/v1/jobs", {}),
    _native_form("/v1/quotes", {"H39 too little": "a quote is there to tell what it costs"}),
    FormDoor("/v1/images/edits", {"prompt": "x"}, "image", "prompt", (*LOOKS, *EXTRAS, *OPENAI)),
    FormDoor(
        "/v1/images/variations",
        {"model": "sketch"},
        "image",
        "user",
        ("model", "n", "size", "user", "response_format", *EXTRAS),
    ),
    FormDoor("/v1/files", {"purpose": "vision"}, "file", "purpose", ()),
)
