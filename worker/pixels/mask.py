"""Masks: OpenAI marks what may change with alpha 0, other dialects with white."""

from PIL import Image, ImageChops, ImageOps

from storage.facts import BadImage, Limits
from worker.pixels.codec import encode, load, plain


def read_mask(data: bytes, width: int, height: int, limits: Limits) -> Image.Image:
    """Return the alpha of a mask, as grey; raises `BadImage` unless it fits and is of use."""
    alpha = _alpha(data, limits)
    if alpha.size != (width, height):
        raise BadImage(
            f"The mask is {alpha.width}x{alpha.height} but the image is {width}x{height}",
            param="mask",
        )
    if alpha.getextrema()[0] != 0:
        raise BadImage("The mask has no fully transparent pixel: nothing may change", param="mask")
    return alpha


def check_mask(data: bytes, *, width: int, height: int, limits: Limits) -> None:
    """Raise `BadImage` unless the mask is of this size, has alpha and lets something change."""
    read_mask(data, width, height, limits)


def mask_to_white(data: bytes, *, limits: Limits) -> bytes:
    """Return a grey PNG, white where alpha was 0."""
    return encode(ImageOps.invert(_alpha(data, limits)), "png")


def white_to_mask(data: bytes, *, limits: Limits) -> bytes:
    """Return a PNG whose alpha is 0 where the image was white."""
    image = plain(load(data, limits)).convert("RGB").convert("L")
    mask = Image.new("RGBA", image.size)
    mask.putalpha(ImageChops.invert(image))
    return encode(mask, "png")


def _alpha(data: bytes, limits: Limits) -> Image.Image:
    image = plain(load(data, limits))
    if image.mode != "RGBA":
        raise BadImage("The mask has no alpha channel", param="mask")
    return image.getchannel("A")
