"""The sketches of the built-in provider: pictures drawn from nothing but a prompt and a seed.

They stand in for a model that needs a key, so they are real pictures of the asked size and format,
made anew for each prompt and seed, and say "sketch" in a corner so that nobody takes them for more.
The words of a prompt choose colours and shapes through a hash and mean nothing.
"""

import random
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont, ImageOps

from storage.facts import Limits
from worker.pixels.codec import encode, load, plain
from worker.pixels.drawing import Drawing
from worker.pixels.mask import read_mask
from worker.pixels.palette import Palette, choose
from worker.pixels.scenes import Brush, blob, paint


_FINENESS = {"low": 1, "medium": 2, "high": 3}
# Beyond so many pixels the edges are fine enough without drawing them larger first.
_SMOOTHED_PIXELS = 4_500_000
# Larger pictures are painted over at this size and enlarged: an edit should take a second or two.
_PAINTED_PIXELS = 4_500_000


def render(*, drawing: Drawing) -> bytes:
    """Draw a picture of the asked size."""
    size = drawing.width or 1024, drawing.height or 1024
    small = _coarse(size, drawing.detail)
    brush = _brush(drawing, small)
    picture = paint(small, brush)
    if drawing.background == "transparent":
        picture.putalpha(blob(small, brush))
    if small != size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    _label(picture, (0, 0, *size))
    return encode(picture, drawing.format, drawing.compression, drawing.background)


def edit(*blobs: bytes, masked: bool, drawing: Drawing, limits: Limits) -> bytes:
    """Draw over the first image, with the others worked in; the last blob is the mask, if any.

    Where the alpha of the mask is above 0, the pixels of the first image are kept as they are.
    """
    images = blobs[:-1] if masked else blobs
    base = plain(load(images[0], limits))
    chosen = _chosen(blobs[-1], base.size, limits) if masked else None
    size = drawing.width or base.width, drawing.height or base.height
    if size != base.size:
        base = ImageOps.fit(base, size)
        chosen = chosen and ImageOps.fit(chosen, size, Image.Resampling.NEAREST)
    box = (chosen and chosen.getbbox()) or (0, 0, *size)
    others = [partial(_reference, data, limits) for data in images[1:]]
    drawn = _restyle(base.convert("RGB"), others, box, drawing)
    _label(drawn, box)
    if base.mode == "RGBA":
        drawn.putalpha(_opacity(base.getchannel("A"), chosen, drawing.background))
    if chosen is not None:
        drawn = Image.composite(drawn, base, chosen)
    return encode(drawn, drawing.format, drawing.compression, drawing.background)


def _restyle(
    base: Image.Image,
    others: Sequence[Callable[[], Image.Image]],
    box: tuple[int, int, int, int],
    drawing: Drawing,
) -> Image.Image:
    """Return `base` painted over in the colours of the prompt, most of all within `box`."""
    detail = min(drawing.detail, (_PAINTED_PIXELS / (base.width * base.height)) ** 0.5)
    small = _coarse(base.size, detail)
    brush = _brush(drawing, small)
    photo = base.resize(small, Image.Resampling.BILINEAR) if small != base.size else base
    photo = _collage(photo, others)
    painted = _paint_over(photo, brush.palette)
    if small != base.size:
        painted = painted.resize(base.size, Image.Resampling.BICUBIC)
    inside = box[2] - box[0], box[3] - box[1]
    whole = inside == base.size
    scene = paint(_coarse(inside, detail), brush).resize(inside)
    below = painted.crop(box)
    painted.paste(Image.blend(below, scene, 0.3 if whole else 0.62), box[:2])
    return painted


def _paint_over(photo: Image.Image, palette: Palette) -> Image.Image:
    """Return the picture in flat patches of the palette, with ink along its edges."""
    width, height = photo.size
    quarter = max(1, width // 4), max(1, height // 4)
    grey = photo.convert("L")
    flat = photo.resize(quarter, Image.Resampling.BOX).filter(ImageFilter.MedianFilter(5))
    flat = ImageOps.posterize(flat, 4).resize(photo.size, Image.Resampling.BICUBIC)
    tones = ImageOps.autocontrast(grey.filter(ImageFilter.BoxBlur(2)))
    toned = ImageOps.colorize(tones, palette.deep, palette.light, mid=palette.middle)
    ink = ImageOps.invert(grey.filter(ImageFilter.FIND_EDGES)).point(
        [max(0, min(255, 3 * value - 510)) for value in range(256)]
    )
    painted = Image.blend(flat, toned, 0.6)
    return ImageChops.multiply(painted, Image.merge("RGB", (ink, ink, ink)))


def _collage(photo: Image.Image, others: Sequence[Callable[[], Image.Image]]) -> Image.Image:
    """Let each of the other pictures take an upright strip, with soft seams.

    They are opened one after the other: all sixteen at once would not fit into a child.
    """
    if not others:
        return photo
    result, strip = photo.copy(), photo.width / (len(others) + 1)
    seam = max(1, int(strip / 4))
    for number, other in enumerate(others, start=1):
        begin = int(number * strip)
        width = photo.width - begin
        cover = ImageOps.fit(other(), photo.size).crop((begin, 0, *photo.size))
        slope = Image.linear_gradient("L").rotate(90).resize((min(seam, width), photo.height))
        mask = Image.new("L", (width, photo.height), 255)
        mask.paste(slope)
        result.paste(cover, (begin, 0), mask)
    return result


def _reference(data: bytes, limits: Limits) -> Image.Image:
    return plain(load(data, limits)).convert("RGB")


def _chosen(mask: bytes, size: tuple[int, int], limits: Limits) -> Image.Image:
    """Return white where the mask is fully transparent, black everywhere else."""
    return read_mask(mask, *size, limits).point([255] + [0] * 255)


def _opacity(alpha: Image.Image, chosen: Image.Image | None, background: str | None) -> Image.Image:
    """Return the alpha of what was drawn: solid where the mask asked for something new."""
    if chosen is None or background == "transparent":
        return alpha
    return ImageChops.lighter(alpha, chosen)


def _brush(drawing: Drawing, size: tuple[int, int]) -> Brush:
    words = drawing.prompt.encode(errors="replace")
    turn = b"%d/%d/" % (drawing.seed, drawing.index)
    return Brush(
        palette=choose(random.Random(sha256(words).digest())),  # noqa: S311 — draws pictures
        chance=random.Random(sha256(turn + words).digest()),  # noqa: S311 — draws pictures
        fineness=_FINENESS.get(drawing.quality or "", 2),
        scale=2 if size[0] * size[1] <= _SMOOTHED_PIXELS else 1,
    )


def _coarse(size: tuple[int, int], detail: float) -> tuple[int, int]:
    return max(1, round(size[0] * detail)), max(1, round(size[1] * detail))


def _label(picture: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Write "sketch" into the lower right corner of `box`, if there is room."""
    width, height = box[2] - box[0], box[3] - box[1]
    font = ImageFont.load_default(max(10, min(width, height) // 42))
    left, top, right, bottom = (round(edge) for edge in font.getbbox("sketch"))
    pad = (bottom - top) // 2
    plate = right - left + 3 * pad, bottom - top + 2 * pad
    if plate[0] * 2 > width or plate[1] * 2 > height:
        return
    at = box[2] - plate[0] - pad, box[3] - plate[1] - pad
    area = picture.crop((*at, at[0] + plate[0], at[1] + plate[1])).convert("RGBA")
    veil = Image.new("RGBA", plate)
    draw = ImageDraw.Draw(veil)
    draw.rounded_rectangle((0, 0, plate[0] - 1, plate[1] - 1), pad, fill=(0, 0, 0, 110))
    draw.text((1.5 * pad - left, pad - top), "sketch", font=font, fill=(255, 255, 255, 235))
    picture.paste(Image.alpha_composite(area, veil).convert(picture.mode), at)
