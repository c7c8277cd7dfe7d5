"""Real pictures of the asked size, the same for the same (model, prompt, seed, index).

Drawn flat, so that a 4K picture costs milliseconds; kept, so that a repeated one costs nothing.
"""

import base64
import hashlib
import io
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw


_DATA = Path(__file__).parent.parent / "data"

FORMATS = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """What decides how a picture looks."""

    model: str
    prompt: str = field(repr=False)
    width: int
    height: int
    seed: int | None = None
    index: int = 0
    format: str = "png"
    transparent: bool = False
    watermark: bool = False

    @property
    def content_type(self) -> str:
        """The media type of what `draw` returns."""
        return FORMATS[self.format]


@lru_cache(maxsize=64)
def draw(sitting: Sitting) -> bytes:
    """Return the picture as a file."""
    digest = hashlib.sha256(
        f"{sitting.model}|{sitting.prompt}|{sitting.seed}|{sitting.index}".encode()
    ).digest()
    transparent = sitting.transparent and sitting.format != "jpeg"
    ground = (digest[0], digest[1], digest[2], 0 if transparent else 255)
    image = Image.new("RGBA" if transparent else "RGB", (sitting.width, sitting.height), ground)
    pen = ImageDraw.Draw(image)
    for number in range(4):
        left, top, span = (digest[3 + number * 3 + i] / 255 for i in range(3))
        box = _box(sitting, left * 0.7, top * 0.7, 0.1 + span * 0.2)
        pen.rectangle(box, fill=(digest[16 + number], digest[20 + number], digest[24 + number]))
    pen.text((4, 4), digest[:4].hex(), fill=(255, 255, 255))
    if sitting.watermark:
        pen.rectangle(_box(sitting, 0.8, 0.9, 0.2), fill=(255, 0, 255))
    return _saved(image, sitting.format)


@lru_cache(maxsize=64)
def drawn_base64(sitting: Sitting) -> str:
    """Return the picture as base64."""
    return base64.b64encode(draw(sitting)).decode()


@lru_cache(maxsize=3)
def signed(format_: str) -> bytes:
    """Return a small picture that C2PA's own tools signed; its size is what it is."""
    name = {"jpeg": "signed.jpg"}.get(format_, f"signed.{format_}")
    return (_DATA / name).read_bytes()


def signed_base64(format_: str) -> str:
    """Return `signed` as base64."""
    return base64.b64encode(signed(format_)).decode()


@lru_cache(maxsize=16)
def heavy(size: int) -> bytes:
    """Return a PNG whose file has about `size` bytes: noise up to there, then one colour."""
    side = 1024
    while side * side * 3 < size:
        side *= 2
    noise = size - len(_flat(side, 0))
    noise += size - len(_flat(side, noise))
    return _flat(side, noise)


@lru_cache(maxsize=16)
def heavy_base64(size: int) -> str:
    """Return `heavy` as base64 of about `size` characters."""
    return base64.b64encode(heavy(size * 3 // 4)).decode()


def spoiled(text: str) -> str:
    """Return base64 as a careless relay sends it: cut in the middle of a group, with a hole."""
    half = len(text) // 2
    return f"{text[: half // 2]}*{text[half // 2 : half - half % 4 + 1]}"


def _flat(side: int, noise: int) -> bytes:
    """Return a PNG of one colour that begins with so many bytes of noise."""
    pixels = Random(side).randbytes(max(0, noise)).ljust(side * side * 3, b"\x7f")
    return _saved(Image.frombytes("RGB", (side, side), pixels), "png")


def _box(
    sitting: Sitting, left: float, top: float, span: float
) -> tuple[float, float, float, float]:
    width, height = sitting.width - 1, sitting.height - 1
    return (left * width, top * height, (left + span) * width, (top + span) * height)


def _saved(image: Image.Image, format_: str) -> bytes:
    file = io.BytesIO()
    options = {"png": {"compress_level": 1}, "webp": {"method": 0}}.get(format_, {})
    image.save(file, format_.upper(), **options)
    return file.getvalue()
