"""Four kinds of picture, each composed anew from a palette and chance, at any size.

All coordinates are shares of the canvas, so that a picture drawn small is a preview of the same
picture drawn large. Shapes are cut as grey masks of a larger scale and shrunk, which smooths their
edges; colours stay smooth, so that the PNG is small.
"""

import random
from collections.abc import Callable, Sequence
from math import pi, sin
from typing import Final, NamedTuple, TypeAlias

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from worker.pixels.palette import Colour, Palette, mix


Point: TypeAlias = tuple[float, float]


class Brush(NamedTuple):
    """What a scene is painted with.

    `fineness` is 1 to 3; shapes are cut `scale` times as large as they will be.
    """

    palette: Palette
    chance: random.Random
    fineness: int
    scale: int


def paint(size: tuple[int, int], brush: Brush) -> Image.Image:
    """Return one of the scenes, in RGB."""
    scene = brush.chance.choice(_SCENES)
    canvas = scene(size, brush)
    return _texture(canvas, brush)


def blob(size: tuple[int, int], brush: Brush) -> Image.Image:
    """Return a round, uneven mask that leaves the corners free."""
    swings = [
        (brush.chance.uniform(0.01, 0.035), brush.chance.uniform(0, 2 * pi)) for _ in range(4)
    ]
    points = []
    for step in range(180):
        angle = 2 * pi * step / 180
        radius = 0.43 + sum(
            swing * sin((order + 2) * angle + phase) for order, (swing, phase) in enumerate(swings)
        )
        points.append((0.5 + radius * sin(angle + pi / 2), 0.5 + radius * sin(angle)))
    return _mask(size, points, brush.scale)


def _ridges(size: tuple[int, int], brush: Brush) -> Image.Image:
    """Mountains behind mountains in the mist, under a sun."""
    palette, chance = brush.palette, brush.chance
    canvas = _fade(size, palette.middle, palette.light)
    _sun(canvas, brush)
    layers = 3 + brush.fineness
    for layer in range(layers):
        depth = (layer + 1) / layers
        top = 0.36 + 0.5 * depth**1.2
        line = _profile(chance, top, 0.16 * (1.1 - depth), roughness=0.55)
        shade = mix(palette.high, palette.deep, depth**0.9)
        _land(canvas, line, shade, mix(shade, palette.light, 0.42 * (1.15 - depth)), brush.scale)
    return canvas


def _waves(size: tuple[int, int], brush: Brush) -> Image.Image:
    """Sheets of cut paper, one over the other, each with its shadow."""
    palette, chance = brush.palette, brush.chance
    sky = palette.light, palette.high, mix(palette.accent, palette.light, 0.45)
    canvas = _mesh(size, sky, chance)
    layers = 4 + brush.fineness
    ramp = (palette.accent, palette.high, palette.middle, palette.low, palette.deep)
    for layer in range(layers):
        depth = (layer + 1) / layers
        line = _profile(chance, 0.14 + 0.72 * depth, 0.085, roughness=0.1)
        place = depth * (len(ramp) - 1)
        shade = mix(ramp[int(place)], ramp[min(int(place) + 1, len(ramp) - 1)], place % 1)
        _land(canvas, line, mix(shade, palette.light, 0.18), shade, brush.scale, shadow=0.4)
    return canvas


def _orbs(size: tuple[int, int], brush: Brush) -> Image.Image:
    """Glass balls and rings that float in coloured light."""
    palette, chance = brush.palette, brush.chance
    canvas = _mesh(size, (palette.deep, palette.low, palette.middle), chance)
    colours = (palette.accent, palette.light, palette.high, palette.middle)
    for number in range(4 + 3 * brush.fineness):
        radius = min(size) * chance.uniform(0.04, 0.24) / (1 + number / 8)
        centre = chance.random() * size[0], chance.random() * size[1]
        if number % 3 == 2:
            _ring(canvas, centre, radius, colours[number % 4], brush.scale)
        else:
            _ball(canvas, centre, radius, (palette.deep, colours[number % 4]), brush.scale)
    return canvas


def _facets(size: tuple[int, int], brush: Brush) -> Image.Image:
    """A folded surface of triangles that catch the light one by one."""
    palette, chance = brush.palette, brush.chance
    count = 5 + 3 * brush.fineness
    light = _mesh(
        (count, count), (palette.deep, palette.middle, palette.accent, palette.light), chance
    )
    grid = [
        [_jitter(chance, column, row, count) for column in range(count + 1)]
        for row in range(count + 1)
    ]
    large = size[0] * brush.scale, size[1] * brush.scale
    canvas = Image.new("RGB", large)
    draw = ImageDraw.Draw(canvas)
    for row in range(count):
        for column in range(count):
            corners = [grid[row][column], grid[row][column + 1], grid[row + 1][column + 1]]
            others = [grid[row][column], grid[row + 1][column], grid[row + 1][column + 1]]
            for triangle in (corners, others):
                shade = _pixel(light, column, row)
                tilt = chance.uniform(-0.16, 0.16)
                fill = mix(shade, palette.light if tilt > 0 else palette.deep, abs(tilt))
                draw.polygon([(x * large[0], y * large[1]) for x, y in triangle], fill=fill)
    return canvas.reduce(brush.scale) if brush.scale > 1 else canvas


_SCENES: Final[Sequence[Callable[[tuple[int, int], Brush], Image.Image]]] = (
    _ridges,
    _waves,
    _orbs,
    _facets,
)


def _land(
    canvas: Image.Image,
    line: list[Point],
    top: Colour,
    bottom: Colour,
    scale: int,
    shadow: float = 0,
) -> None:
    """Lay everything below `line` over the canvas, in a fade from `top` to `bottom`."""
    width, height = canvas.size
    # Room above the line, so that the soft rim of a shadow is not cut off.
    begin = max(0, int(min(y for _, y in line) * height) - 1 - (height // 15 if shadow else 0))
    size = width, max(1, height - begin)
    points = [(x, (y * height - begin) / size[1]) for x, y in line]
    mask = _mask(size, [(0.0, 1.1), *points, (1.0, 1.1)], scale)
    if shadow:
        _cast(canvas, mask, begin, shadow)
    canvas.paste(_fade(size, top, bottom), (0, begin), mask)


def _cast(canvas: Image.Image, mask: Image.Image, begin: int, strength: float) -> None:
    """Darken what lies just above a sheet."""
    rise = max(1, canvas.height // 60)
    small = mask.reduce(8) if min(mask.size) >= 64 else mask
    soft = small.filter(ImageFilter.GaussianBlur(max(1.0, rise / 8)))
    soft = soft.point([int(value * strength) for value in range(256)])
    shade = soft.resize(mask.size, Image.Resampling.BILINEAR)
    canvas.paste((10, 8, 20), (0, begin - rise), shade)


def _sun(canvas: Image.Image, brush: Brush) -> None:
    width, height = canvas.size
    radius = min(width, height) * brush.chance.uniform(0.05, 0.11)
    centre = width * brush.chance.uniform(0.2, 0.8), height * brush.chance.uniform(0.14, 0.3)
    glow = Image.radial_gradient("L").point([max(0, 150 - value) for value in range(256)])
    wide = max(2, int(radius * 9))
    place = int(centre[0] - wide / 2), int(centre[1] - wide / 2)
    halo = mix(brush.palette.accent, brush.palette.light, 0.5)
    canvas.paste(halo, place, glow.resize((wide, wide)))
    disc = _disc(radius, brush.scale)
    place = int(centre[0] - radius), int(centre[1] - radius)
    canvas.paste(mix(brush.palette.light, (255, 255, 255), 0.6), place, disc)


def _ball(
    canvas: Image.Image, centre: Point, radius: float, colours: tuple[Colour, Colour], scale: int
) -> None:
    """Draw a ball that is lit from above on the left."""
    disc = _disc(radius, scale)
    wide = disc.width
    lit = Image.radial_gradient("L").resize((2 * wide, 2 * wide), Image.Resampling.BILINEAR)
    offset = int(wide * 0.72), int(wide * 0.68)
    light = lit.crop((*offset, offset[0] + wide, offset[1] + wide))
    body = Image.composite(
        Image.new("RGB", disc.size, colours[0]),
        Image.new("RGB", disc.size, colours[1]),
        light.point([min(255, int(value * 1.25)) for value in range(256)]),
    )
    veil = disc.point([int(value * 0.9) for value in range(256)])
    canvas.paste(body, (int(centre[0] - radius), int(centre[1] - radius)), veil)


def _ring(canvas: Image.Image, centre: Point, radius: float, colour: Colour, scale: int) -> None:
    outer = _disc(radius, scale)
    inner = Image.new("L", outer.size)
    hole = _disc(radius * 0.93, scale)
    inner.paste(hole, ((outer.width - hole.width) // 2, (outer.height - hole.height) // 2))
    canvas.paste(
        colour,
        (int(centre[0] - radius), int(centre[1] - radius)),
        ImageChops.subtract(outer, inner),
    )


def _disc(radius: float, scale: int) -> Image.Image:
    wide = max(2, round(2 * radius))
    mask = Image.new("L", (wide * scale, wide * scale))
    ImageDraw.Draw(mask).ellipse((0, 0, wide * scale - 1, wide * scale - 1), fill=255)
    return mask.reduce(scale) if scale > 1 else mask


def _mask(size: tuple[int, int], points: Sequence[Point], scale: int) -> Image.Image:
    """Return a polygon of shares of `size` as a grey mask with smooth edges."""
    large = size[0] * scale, size[1] * scale
    mask = Image.new("L", large)
    ImageDraw.Draw(mask).polygon([(x * large[0], y * large[1]) for x, y in points], fill=255)
    return mask.reduce(scale) if scale > 1 else mask


def _profile(chance: random.Random, top: float, swing: float, *, roughness: float) -> list[Point]:
    """Return a skyline around `top`: slow swings, and faster ones by `roughness`."""
    tones = [
        (chance.uniform(0.7, 1.3) * 1.9**octave, chance.uniform(0, 2 * pi), roughness**octave)
        for octave in range(7)
    ]
    total = sum(weight for _, _, weight in tones)
    steps = 160
    return [
        (
            step / steps,
            top
            + swing
            * sum(w * sin(2 * pi * f * step / steps + phase) for f, phase, w in tones)
            / total,
        )
        for step in range(steps + 1)
    ]


def _mesh(size: tuple[int, int], colours: Sequence[Colour], chance: random.Random) -> Image.Image:
    """Return a soft field in which the colours run into each other."""
    small = Image.new("RGB", (4, 4))
    for row in range(4):
        for column in range(4):
            small.putpixel((column, row), chance.choice(colours))
    return small.resize(size, Image.Resampling.BICUBIC)


def _fade(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    column = Image.new("RGB", (1, 2), top)
    column.putpixel((0, 1), bottom)
    column = column.resize((1, size[1]), Image.Resampling.BILINEAR)
    return column.resize(size, Image.Resampling.NEAREST)


def _texture(canvas: Image.Image, brush: Brush) -> Image.Image:
    """Let broad patches of light lie over the picture, in three octaves of noise."""
    noise = Image.new("L", (33, 33), 128)
    for cells in (3, 7, 17):
        octave = Image.frombytes("L", (cells, cells), brush.chance.randbytes(cells * cells))
        noise = Image.blend(noise, octave.resize((33, 33), Image.Resampling.BICUBIC), 0.4)
    light = noise.point([104 + value * 48 // 255 for value in range(256)])
    broad = light.resize(canvas.size, Image.Resampling.BICUBIC)
    return ImageChops.overlay(canvas, Image.merge("RGB", (broad, broad, broad)))


def _jitter(chance: random.Random, column: int, row: int, count: int) -> Point:
    """Return a point of the grid, moved a little unless it lies on the rim."""
    move = 0.36 / count
    x = column / count + (chance.uniform(-move, move) if 0 < column < count else 0)
    y = row / count + (chance.uniform(-move, move) if 0 < row < count else 0)
    return x, y


def _pixel(image: Image.Image, x: int, y: int) -> Colour:
    red, green, blue = image.convert("RGB").crop((x, y, x + 1, y + 1)).tobytes()
    return red, green, blue
