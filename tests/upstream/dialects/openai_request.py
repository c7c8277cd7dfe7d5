"""What OpenAI's image API accepts, model by model, and what it counts for it."""

import base64
import binascii
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, UnidentifiedImageError

from tests.upstream.calls import Part
from tests.upstream.faults import Fault, Refused
from tests.upstream.pictures import FORMATS, Sitting


LOCAL = "local-"
"""Models of self-hosted servers start so: any field is welcome, results come by URL by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What one model accepts, and its USD per million tokens."""

    free_size: bool = True
    finer: bool = False
    fidelity: bool = False
    text_in: float = 5.0
    image_in: float = 8.0
    image_out: float = 30.0


MODELS = {
    "gpt-image-1-mini": Model(free_size=False, text_in=2.0, image_in=2.5, image_out=8.0),
    "gpt-image-1.5": Model(free_size=False, fidelity=True, image_out=32.0),
    "chatgpt-image-latest": Model(free_size=False, fidelity=True, image_out=32.0),
    "gpt-image-2": Model(),
    "gpt-image-2.5-flare": Model(finer=True),
    "gpt-image-2.5-sunburst": Model(finer=True),
    "gpt-image-2.6-flare": Model(finer=True),
    "gpt-image-2.6-sunburst": Model(finer=True),
}
_FIELDS = {
    "prompt",
    "model",
    "n",
    "size",
    "quality",
    "complexity",
    "background",
    "output_format",
    "output_compression",
    "moderation",
    "stream",
    "partial_images",
    "user",
}
_EDIT_FIELDS = _FIELDS | {"images", "mask", "input_fidelity"}
_CLASSIC = {"1024x1024", "1536x1024", "1024x1536"}
_QUALITIES = ("low", "medium", "high")
_FINER = ("xhigh", "max")
_OUTPUT_TOKENS = {"low": 196, "medium": 1756, "high": 7024, "xhigh": 10_000, "max": 14_000}
_PARTIAL_TOKENS = 100
_IMAGE_TOKENS = 400
_MAX_SOURCES = 16
_MAX_SOURCE = 50_000_000
_MAX_MASK = 4_000_000
_MAX_PROMPT = 32_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that passed all checks."""

    model: str
    prompt: str = field(repr=False)
    n: int
    width: int
    height: int
    quality: str
    background: str
    format: str
    stream: bool
    partial_images: int
    by_url: bool
    sources: int

    @property
    def edit(self) -> bool:
        """Whether pictures came with it."""
        return self.sources > 0

    def sitting(self, index: int, *, draft: int = 0) -> Sitting:
        """Return how picture `index` shall look; drafts look different."""
        return Sitting(
            model=self.model,
            prompt=self.prompt,
            width=self.width,
            height=self.height,
            index=index + 1000 * draft,
            format=self.format,
            transparent=self.background == "transparent",
        )

    def echo(self) -> dict[str, Any]:
        """Return what the answer repeats of the request."""
        return {
            "background": self.background,
            "output_format": self.format,
            "quality": self.quality,
            "size": f"{self.width}x{self.height}",
        }

    def usage(self, made: int) -> dict[str, Any]:
        """Return the tokens of `made` pictures."""
        text, image = max(1, len(self.prompt) // 4), self.sources * _IMAGE_TOKENS
        area = self.width * self.height / 1024**2
        each = round(_OUTPUT_TOKENS[self.quality] * area) + self.partial_images * _PARTIAL_TOKENS
        return {
            "input_tokens": text + image,
            "input_tokens_details": {"text_tokens": text, "image_tokens": image},
            "output_tokens": each * made,
            "output_tokens_details": {"image_tokens": each * made, "text_tokens": 0},
            "total_tokens": text + image + each * made,
        }

    def cost(self, made: int) -> float:
        """Return the USD of `made` pictures and what was read for them; local models are free."""
        model = MODELS.get(self.model)
        if model is None:
            return 0.0
        usage = self.usage(made)
        details = usage["input_tokens_details"]
        return (
            float(
                details["text_tokens"] * model.text_in
                + details["image_tokens"] * model.image_in
                + usage["output_tokens"] * model.image_out
            )
            / 1_000_000
        )


def read(body: Mapping[str, Any], model: str, *, sources: int | None = None) -> Asked:
    """Check a request; `sources` is the count of pictures of an edit, None for a generation."""
    known = MODELS.get(model)
    if known is None and not model.startswith(LOCAL):
        raise Refused(Fault.UNKNOWN_MODEL, f"The model '{model}' does not exist.", param="model")
    if known is not None:
        _check_fields(body, known, edit=sources is not None)
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt or len(prompt) > _MAX_PROMPT:
        raise _invalid("prompt", "Invalid 'prompt': expected 1 to 32000 characters.")
    finer = _FINER if known is None or known.finer else ()
    quality = _choice(body, "quality", "auto", ("auto", *_QUALITIES, *finer))
    background = _choice(body, "background", "auto", ("auto", "transparent", "opaque"))
    format_ = _choice(body, "output_format", "png", tuple(FORMATS))
    if background == "transparent" and format_ == "jpeg":
        raise _invalid("background", "Transparent background is not supported for JPEG output.")
    if "output_compression" in body and format_ == "png":
        raise _invalid("output_compression", "Compression less than 100 is not supported for PNG.")
    _integer(body, "output_compression", 100, 0, 100)
    stream = body.get("stream", False)
    if not isinstance(stream, bool):
        raise _invalid("stream", "Invalid type for 'stream': expected a boolean.")
    if "partial_images" in body and not stream:
        raise _invalid("partial_images", "'partial_images' is only supported when streaming.")
    width, height = _size(body.get("size", "auto"), known)
    return Asked(
        model=model,
        prompt=prompt,
        n=_integer(body, "n", 1, 1, 10),
        width=width,
        height=height,
        quality="medium" if quality == "auto" else quality,
        background="opaque" if background == "auto" else background,
        format=format_,
        stream=stream,
        partial_images=_integer(body, "partial_images", 0, 0, 3),
        by_url=known is None and body.get("response_format", "url") == "url",
        sources=sources or 0,
    )


def unstrung(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a form with the types that JSON would have."""
    found = dict(fields)
    for name in ("n", "partial_images", "output_compression"):
        if name in found:
            if not re.fullmatch(r"\d+", found[name]):
                raise _invalid(name, f"Invalid type for '{name}': expected an integer.")
            found[name] = int(found[name])
    if "stream" in found:
        found["stream"] = {"true": True, "false": False}.get(found["stream"], found["stream"])
    return found


def count_parts(parts: tuple[Part, ...]) -> int:
    """Check the files of an edit and return how many are pictures (`image`, `image[]`)."""
    images = [part for part in parts if part.name in ("image", "image[]")]
    masks = [part for part in parts if part.name == "mask"]
    if stray := next((p for p in parts if p.name not in ("image", "image[]", "mask")), None):
        raise _invalid(stray.name, f"Unknown parameter: '{stray.name}'.", code="unknown_parameter")
    sizes = [_opened(part).size for part in images]
    _check_count(len(images))
    for mask in masks:
        _check_mask(_opened(mask), sizes[0], len(mask.data))
    return len(images)


def count_references(body: Mapping[str, Any]) -> int:
    """Check the pictures of a JSON edit and return how many there are."""
    images = body.get("images")
    if not isinstance(images, list):
        raise _invalid("images", "Missing required parameter: 'images'.")
    _check_count(len(images))
    mask = body.get("mask")
    for place, item in [*((f"images[{i}]", item) for i, item in enumerate(images)), ("mask", mask)]:
        if place == "mask" and item is None:
            continue
        if not isinstance(item, dict) or len(item.keys() & {"image_url", "file_id"}) != 1:
            raise _invalid(place, f"'{place}' must have exactly one of 'image_url' and 'file_id'.")
        _check_url(place, item.get("image_url"))
    return len(images)


def _check_fields(body: Mapping[str, Any], model: Model, *, edit: bool) -> None:
    allowed = _EDIT_FIELDS if edit else _FIELDS
    for name in body:
        if name not in allowed:
            raise _invalid(name, f"Unknown parameter: '{name}'.", code="unknown_parameter")
    if "input_fidelity" in body and not model.fidelity:
        raise _invalid("input_fidelity", "'input_fidelity' is not supported by this model.")
    _choice(body, "input_fidelity", "low", ("low", "high"))
    _choice(body, "moderation", "auto", ("auto", "low"))


def _size(size: object, model: Model | None) -> tuple[int, int]:
    if size == "auto":
        return 1024, 1024
    match = re.fullmatch(r"(\d{2,5})x(\d{2,5})", size if isinstance(size, str) else "")
    if match is None:
        raise _invalid("size", f"Invalid size '{size}'.")
    width, height = int(match[1]), int(match[2])
    if model is None:
        return width, height
    if not model.free_size and size not in _CLASSIC:
        raise _invalid("size", f"Invalid size '{size}'. Supported sizes are {sorted(_CLASSIC)}.")
    good = (
        width % 16 == 0
        and height % 16 == 0
        and max(width, height) <= 3840
        and max(width, height) <= 3 * min(width, height)
        and 655_360 <= width * height <= 8_294_400
    )
    if not good:
        raise _invalid("size", f"Invalid size '{size}'.", code="invalid_size")
    return width, height


def _choice(body: Mapping[str, Any], name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = body.get(name, default)
    if value not in allowed:
        raise _invalid(name, f"Invalid value: '{value}'. Supported values are {list(allowed)}.")
    return str(value)


def _integer(body: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _invalid(name, f"Invalid '{name}': expected an integer from {low} to {high}.")
    return value


def _check_count(count: int) -> None:
    if not 1 <= count <= _MAX_SOURCES:
        raise _invalid("image", f"Invalid 'image': expected 1 to {_MAX_SOURCES} images.")


def _opened(part: Part) -> Image.Image:
    if part.content_type not in FORMATS.values():
        message = f"Invalid file '{part.name}': unsupported mimetype ('{part.content_type}')."
        raise _invalid(part.name, message, code="unsupported_file_mimetype")
    if len(part.data) > _MAX_SOURCE:
        raise _invalid(part.name, "The image is larger than 50 MB.", code="invalid_image_file")
    return _image(part.name, part.data)


def _image(place: str, data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise _invalid(place, "Invalid image file.", code="invalid_image_file") from error


def _check_mask(mask: Image.Image, size: tuple[int, int], weight: int) -> None:
    if mask.format != "PNG" or "A" not in mask.getbands():
        raise _invalid("mask", "Invalid mask: a PNG with an alpha channel is required.")
    if mask.size != size or weight > _MAX_MASK:
        raise _invalid("mask", "Invalid mask: its size does not match the image.")


def _check_url(place: str, url: object) -> None:
    if not isinstance(url, str) or url.startswith("https://"):
        return
    match = re.match(r"data:image/(png|jpeg|webp);base64,", url)
    if match is None or len(url) > 20_971_520:
        raise _invalid(place, f"Invalid '{place}': expected a URL.")
    try:
        _image(place, base64.b64decode(url[match.end() :], validate=True))
    except binascii.Error as error:
        raise _invalid(place, "Invalid base64 image.", code="invalid_image_file") from error


def _invalid(param: str, message: str, *, code: str = "invalid_value") -> Refused:
    return Refused(Fault.INVALID, message, param=param, code=code)
