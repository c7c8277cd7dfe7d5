"""From hostile bytes to plain pixels and back: the only place that opens and writes images.

Plain means 8 bits, RGB or RGBA, sRGB, upright, one frame, no metadata: what all upstreams take and
what hides nothing.
"""

import warnings
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

from PIL import Image, ImageCms, ImageOps

from storage.container import inspect
from storage.errors import TooLarge
from storage.facts import BadImage, Limits
from worker.pixels.mark import mark


# A second lock for whoever opens an image in this process: the walk has judged the size before.
Image.MAX_IMAGE_PIXELS = 1 << 26

_FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF")
_MAX_PROFILE: Final = 4_000_000
_SRGB: Final = ImageCms.createProfile("sRGB")
_PROFILE_MODES: Final = {"GRAY": ("L",), "RGB ": ("RGB", "RGBA"), "CMYK": ("CMYK",)}
_QUALITY: Final = {"jpeg": 92, "webp": 90}


def load(data: bytes, limits: Limits) -> Image.Image:
    """Return the decoded first frame as stored; raises `BadImage` unless it is a sound image."""
    try:
        inspect(data, limits)
    except TooLarge as error:
        raise BadImage(error.message) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a broken EXIF record is not worth a word
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(data), formats=_FORMATS)
            image.load()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 — a decoder raises anything at all over hostile bytes
        raise BadImage("The image cannot be decoded") from None
    return image


def plain(image: Image.Image) -> Image.Image:
    """Return the image upright, in RGB or RGBA of 8 bits and sRGB, with no metadata."""
    profile = image.info.get("icc_profile")
    image = _upright(image)
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    if isinstance(profile, bytes):
        image = _to_srgb(image, profile)
    image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.info.clear()
    return image


def encode(
    image: Image.Image,
    format: str,  # noqa: A002 — the field's own word
    compression: int | None = None,
    background: str | None = None,
) -> bytes:
    """Write a plain image; JPEG and an "opaque" `background` put it on white."""
    if image.mode == "RGBA" and (format == "jpeg" or background == "opaque"):
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image.getchannel("A"))
        image = white
    quality = _QUALITY.get(format) if compression is None else compression
    options: Mapping[str, dict[str, Any]] = {
        "png": {"compress_level": 1},
        "jpeg": {"quality": max(1, quality or 0), "subsampling": "4:2:0"},
        "webp": {"quality": quality, "method": 2},
    }
    out = BytesIO()
    image.save(out, format, **options[format])
    return out.getvalue()


def decode_check(data: bytes, *, limits: Limits) -> dict[str, Any]:
    """Decode every pixel; return the size as displayed and whether any pixel is see-through."""
    image = _upright(load(data, limits))
    transparent = False
    if image.has_transparency_data:
        transparent = image.convert("RGBA").getchannel("A").getextrema()[0] != 255
    return {"width": image.width, "height": image.height, "transparent": transparent}


def convert(
    data: bytes,
    *,
    format: str,  # noqa: A002 — the field's own word
    compression: int | None,
    background: str | None,
    limits: Limits,
    words: str | None = None,
) -> bytes:
    """Return the image written anew in `format`, with `words` to be seen in it if there are any."""
    image = plain(load(data, limits))
    return encode(image if words is None else mark(image, words), format, compression, background)


def normalise_input(data: bytes, *, limits: Limits) -> bytes:
    """Return the plain image as PNG."""
    return encode(plain(load(data, limits)), "png")


def resize(
    data: bytes,
    *,
    width: int,
    format: str,  # noqa: A002 — the field's own word
    compression: int | None,
    limits: Limits,
) -> bytes:
    """Return the image at most `width` pixels wide, in proportion, in `format`."""
    image = plain(load(data, limits))
    if width < image.width:
        height = max(1, round(image.height * width / image.width))
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return encode(image, format, compression)


def _upright(image: Image.Image) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ImageOps.exif_transpose(image)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 — a broken EXIF record must not cost the image
        return image


def _eight_bits(image: Image.Image) -> Image.Image:
    """Bring 16 and 32 bits of grey down to 8; Pillow's own conversion clips some of them."""
    grey = image.convert("I").point(lambda value: value * (1 / 256)) if image.mode != "F" else image
    return grey.convert("L")


def _to_srgb(image: Image.Image, data: bytes) -> Image.Image:
    """Return the image in sRGB if its profile can be used, else as it was."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data[:_MAX_PROFILE]))
        if image.mode not in _PROFILE_MODES.get(profile.profile.xcolor_space, ()):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(image, profile, _SRGB, outputMode=mode) or image
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
