"""Checks of single fields, written as tables: what FastAPI does for many of the real ones."""

import base64
import binascii
import io
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from PIL import Image, UnidentifiedImageError

from tests.upstream.calls import Part
from tests.upstream.faults import Fault, Refused
from tests.upstream.pictures import FORMATS


Check: TypeAlias = Callable[[object], str | None]
"""Says what is wrong with a value, or None."""

_DATA_URL = re.compile(r"data:image/(png|jpeg|webp|gif);base64,")


def check(body: Mapping[str, Any], fields: Mapping[str, Check], *required: str) -> None:
    """Refuse a body that lacks a `required` field, has an unknown one, or one that is wrong."""
    for name in required:
        if name not in body:
            raise Refused(Fault.INVALID, "Field required", param=name, code="missing")
    for name, value in body.items():
        if name not in fields:
            message = "Extra inputs are not permitted"
            raise Refused(Fault.INVALID, message, param=name, code="extra_forbidden")
        if (wrong := fields[name](value)) is not None:
            raise Refused(Fault.INVALID, wrong, param=name, code="value_error")


def text(longest: int, shortest: int = 1) -> Check:
    """Accept a string of so many characters."""

    def judge(value: object) -> str | None:
        good = isinstance(value, str) and shortest <= len(value) <= longest
        return None if good else f"Input should be a string of {shortest} to {longest} characters"

    return judge


def whole(low: int, high: int, step: int = 1) -> Check:
    """Accept an integer within bounds, in steps from 0."""

    def judge(value: object) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool)
        if good and low <= int(str(value)) <= high and int(str(value)) % step == 0:
            return None
        return f"Input should be an integer from {low} to {high}, a multiple of {step}"

    return judge


def number(low: float, high: float) -> Check:
    """Accept a number within bounds."""

    def judge(value: object) -> str | None:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        if good and low <= float(str(value)) <= high:
            return None
        return f"Input should be a number from {low} to {high}"

    return judge


def choice(*allowed: object) -> Check:
    """Accept one of some values."""

    def judge(value: object) -> str | None:
        return None if value in allowed else f"Input should be one of {list(allowed)}"

    return judge


def boolean(value: object) -> str | None:
    """Accept true and false."""
    return None if isinstance(value, bool) else "Input should be a valid boolean"


def mapping(value: object) -> str | None:
    """Accept an object."""
    return None if isinstance(value, dict) else "Input should be an object"


def picture(largest: int = 20_000_000, *, bare: bool = False, url: bool = True) -> Check:
    """Accept a picture as a data URL, by an https URL, or (`bare`) as base64 alone."""

    def judge(value: object) -> str | None:
        if not isinstance(value, str) or not value:
            return "Input should be an image"
        if value.startswith(("http://", "https://")):
            return None if url else "Input should not be a URL"
        match = _DATA_URL.match(value)
        if match is None and not bare:
            return "Input should be a URL or a data URI"
        coded = value[match.end() :] if match else value
        return _opens(coded, largest)

    return judge


def pictures(most: int, one: Check) -> Check:
    """Accept a list of 1 to `most` pictures."""

    def judge(value: object) -> str | None:
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            return f"Input should be a list of 1 to {most} images"
        return next((wrong for item in value if (wrong := one(item))), None)

    return judge


def pixels(ratio: str, edge: int) -> tuple[int, int]:
    """Return the size of a picture of that ratio ("16:9") whose longer edge is `edge`."""
    wide, tall = (float(part) for part in ratio.split(":"))
    return (edge, round(edge * tall / wide)) if wide >= tall else (round(edge * wide / tall), edge)


def opened(coded: str) -> Image.Image:
    """Return the picture in a data URL or in bare base64 that has passed a check."""
    return Image.open(io.BytesIO(base64.b64decode(coded.rpartition(",")[2])))


def opened_part(part: Part) -> Image.Image:
    """Return the picture in a part of a form; one without a picture's media type is refused."""
    if part.content_type not in FORMATS.values():
        message = f"unsupported media type {part.content_type}"
        raise Refused(Fault.INVALID, message, param=part.name)
    try:
        return Image.open(io.BytesIO(part.data))
    except UnidentifiedImageError as error:
        raise Refused(Fault.INVALID, "The image cannot be read.", param=part.name) from error


def _opens(coded: str, largest: int) -> str | None:
    if len(coded) * 3 // 4 > largest:
        return f"The image is larger than {largest} bytes"
    try:
        Image.open(io.BytesIO(base64.b64decode(coded, validate=True)))
    except (binascii.Error, UnidentifiedImageError):
        return "The image cannot be read"
    return None
