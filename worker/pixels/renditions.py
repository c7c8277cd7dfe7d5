"""Renditions: one decode, then as many smaller files of the picture as are wanted."""

from typing import Any

from PIL import Image

from storage.facts import Limits
from worker.pixels.blurhash import blurhash, dominant_color
from worker.pixels.codec import encode, load, plain


def renditions(
    data: bytes, *, recipes: list[dict[str, Any]], limits: Limits
) -> tuple[dict[str, Any], list[bytes]]:
    """Return a file for each recipe, in order, and what can be shown before any of them is there.

    A recipe has `width` (or None), `format` and `quality` (or None).
    """
    image = plain(load(data, limits))
    sizes = {min(one["width"] or image.width, image.width) for one in recipes}
    scaled = _scaled(image, sizes)
    files = [
        encode(scaled[min(one["width"] or image.width, image.width)], one["format"], one["quality"])
        for one in recipes
    ]
    small = _on_white(scaled[min(sizes)])
    return {"blurhash": blurhash(small), "dominant_color": dominant_color(small)}, files


def _scaled(image: Image.Image, widths: set[int]) -> dict[int, Image.Image]:
    """Return the picture in each width, each made of the smallest one that is twice as wide."""
    made: dict[int, Image.Image] = {image.width: image}
    for width in sorted(widths - {image.width}, reverse=True):
        source = min((w for w in made if w >= 2 * width), default=image.width)
        height = max(1, round(image.height * width / image.width))
        made[width] = made[source].resize(
            (width, height), Image.Resampling.LANCZOS, reducing_gap=2.0
        )
    return made


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white
