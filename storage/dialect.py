"""Dialects: what each provider can by default, so that a catalog only says what differs.

The code that speaks a dialect lives with the worker; what is written here is what both processes
must know to judge a request: capabilities, the usual address, and whether a key is needed. No
upstream model is named here, those live in the catalog.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field


# What a catalog may write; dataclasses made in code are believed.
_Count = Annotated[int, Field(ge=0)]
_Least = Annotated[int, Field(ge=1)]
_Size = Annotated[str, Field(pattern=r"^([1-9][0-9]{0,4}x[1-9][0-9]{0,4}|auto)$")]
_Ratio = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,3}(\.[0-9])?:[1-9][0-9]{0,3}(\.[0-9])?$")]
_MaxRatio = Annotated[float, Field(ge=1, le=100)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a deployment can do. A request outside of it is fitted, refused or sent elsewhere.

    `n` is the most images of one call and `references` the most input images. With `sizes`, only
    those exact "WxH" exist; with `ratios` (and `resolutions`) the upstream picks the pixels; with
    neither, any size within `min_pixels`, `max_pixels`, `max_edge`, `max_ratio`, in steps of
    `multiple_of`, can be asked. An empty `qualities` means that quality cannot be chosen. `formats`
    are those the upstream writes itself. `synthid` is the upstream's claim that every image carries
    that mark, which nobody else can see.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    generate: bool = True
    edit: bool = False
    mask: bool = False
    references: _Count = 0
    n: _Least = 1
    sizes: tuple[_Size, ...] = ()
    ratios: tuple[_Ratio, ...] = ()
    resolutions: tuple[str, ...] = ()
    min_pixels: _Least = 1
    max_pixels: _Least = 25_000_000
    max_edge: _Least = 8192
    max_ratio: _MaxRatio = 16.0
    multiple_of: _Least = 1
    formats: tuple[str, ...] = ("png",)
    qualities: tuple[str, ...] = ()
    transparency: bool = False
    stream: bool = False
    compression: bool = False
    seed: bool = False
    negative_prompt: bool = False
    style: bool = False
    moderation: bool = False
    input_fidelity: bool = False
    watermark: bool = False
    user: bool = False
    synthid: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """One wire dialect: where its upstream usually lives, and what it can by default."""

    name: str
    base_url: str | None
    needs_key: bool = True
    capabilities: Capabilities = field(default_factory=Capabilities)


_GEMINI_RATIOS = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
_OPENAI_FORMATS = ("png", "jpeg", "webp")

DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            name="sketch",
            base_url=None,
            needs_key=False,
            capabilities=Capabilities(
                edit=True,
                mask=True,
                references=16,
                n=10,
                max_pixels=16_777_216,
                max_edge=4096,
                formats=_OPENAI_FORMATS,
                qualities=("low", "medium", "high"),
                transparency=True,
                stream=True,
                compression=True,
                seed=True,
            ),
        ),
        Dialect(
            name="openai",
            base_url="https://api.openai.com/v1",
            capabilities=Capabilities(
                edit=True,
                mask=True,
                references=16,
                n=10,
                min_pixels=655_360,
                max_pixels=8_294_400,
                max_edge=3840,
                max_ratio=3.0,
                multiple_of=16,
                formats=_OPENAI_FORMATS,
                qualities=("low", "medium", "high"),
                transparency=True,
                stream=True,
                compression=True,
                moderation=True,
                user=True,
            ),
        ),
        Dialect(
            name="ark",
            base_url="https://ark.cn-beijing.volces.com/api/v3",
            capabilities=Capabilities(
                edit=True,
                references=10,
                min_pixels=921_600,
                max_pixels=4_600_000,
                max_edge=8192,
                max_ratio=16.0,
                formats=("jpeg", "png"),
                watermark=True,
            ),
        ),
        Dialect(
            name="openrouter",
            base_url="https://openrouter.ai/api/v1",
            capabilities=Capabilities(
                edit=True,
                references=16,
                ratios=(*_GEMINI_RATIOS,),
                resolutions=("1K", "2K", "4K"),
            ),
        ),
        Dialect(
            name="gemini",
            base_url="https://generativelanguage.googleapis.com/v1beta",
            capabilities=Capabilities(
                edit=True,
                references=14,
                ratios=_GEMINI_RATIOS,
                resolutions=("1K", "2K", "4K"),
                seed=True,
                synthid=True,
            ),
        ),
        Dialect(
            name="zai",
            base_url="https://api.z.ai/api/paas/v4",
            capabilities=Capabilities(
                min_pixels=524_288,
                max_pixels=2_097_152,
                max_edge=2048,
                max_ratio=2.0,
                multiple_of=32,
                qualities=("standard", "hd"),
                watermark=True,
                user=True,
            ),
        ),
        Dialect(
            name="xai",
            base_url="https://api.x.ai/v1",
            capabilities=Capabilities(
                edit=True,
                references=3,
                n=10,
                ratios=(
                    *("1:1", "3:4", "4:3", "9:16", "16:9", "2:3", "3:2"),
                    *("9:19.5", "19.5:9", "9:20", "20:9", "1:2", "2:1"),
                ),
                resolutions=("1K", "2K"),
                formats=("jpeg",),
                user=True,
            ),
        ),
        Dialect(
            name="chat_relay",
            base_url=None,
            capabilities=Capabilities(edit=True, references=8, ratios=("1:1", "2:3", "3:2")),
        ),
        Dialect(
            name="bfl",
            base_url="https://api.bfl.ai",
            capabilities=Capabilities(
                edit=True,
                references=8,
                min_pixels=4096,
                max_pixels=4_000_000,
                max_edge=4096,
                max_ratio=8.0,
                multiple_of=16,
                formats=("jpeg", "png", "webp"),
                seed=True,
            ),
        ),
        Dialect(
            name="fal",
            base_url="https://queue.fal.run",
            capabilities=Capabilities(
                n=4,
                min_pixels=65_536,
                max_pixels=4_194_304,
                max_edge=4096,
                multiple_of=8,
                formats=("jpeg", "png"),
                seed=True,
            ),
        ),
        Dialect(
            name="replicate",
            base_url="https://api.replicate.com/v1",
            capabilities=Capabilities(
                ratios=(
                    "1:1",
                    "16:9",
                    "21:9",
                    "3:2",
                    "2:3",
                    "4:5",
                    "5:4",
                    "3:4",
                    "4:3",
                    "9:16",
                    "9:21",
                ),
                formats=("webp", "jpeg", "png"),
                seed=True,
            ),
        ),
        Dialect(
            name="stability",
            base_url="https://api.stability.ai",
            capabilities=Capabilities(
                edit=True,
                mask=True,
                references=1,
                ratios=("1:1", "16:9", "21:9", "2:3", "3:2", "4:5", "5:4", "9:16", "9:21"),
                formats=_OPENAI_FORMATS,
                seed=True,
                negative_prompt=True,
            ),
        ),
        Dialect(
            name="automatic1111",
            base_url="http://127.0.0.1:7860",
            needs_key=False,
            capabilities=Capabilities(
                edit=True,
                mask=True,
                references=1,
                n=4,
                min_pixels=4096,
                max_pixels=4_194_304,
                max_edge=2048,
                multiple_of=8,
                seed=True,
                negative_prompt=True,
            ),
        ),
        Dialect(
            name="comfyui",
            base_url="http://127.0.0.1:8188",
            needs_key=False,
            capabilities=Capabilities(
                n=4,
                min_pixels=4096,
                max_pixels=16_777_216,
                max_edge=4096,
                multiple_of=8,
                seed=True,
                negative_prompt=True,
            ),
        ),
    )
}
