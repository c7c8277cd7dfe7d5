"""A blurhash: a few cosines of a picture in 28 characters, shown while the picture itself comes."""

import math
from collections.abc import Sequence
from typing import Final

from PIL import Image


_ACROSS, _DOWN = 4, 3
_SIDE: Final = 32  # pixels that are enough for so few waves
_DIGITS: Final = (
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
)
_LINEAR: Final = tuple(
    (v / 255 / 12.92) if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in range(256)
)

Colour = tuple[float, float, float]


def blurhash(image: Image.Image) -> str:
    """Return the blurhash of an RGB picture, of four waves across and three down."""
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    data = small.tobytes()
    waves = _waves(data)
    first, others = waves[0], waves[1:]
    largest = max(abs(value) for wave in others for value in wave)
    step = max(0, min(82, math.floor(largest * 166 - 0.5)))
    scale = (step + 1) / 166
    parts = [_base83((_ACROSS - 1) + (_DOWN - 1) * 9, 1), _base83(step, 1)]
    red, green, blue = (_srgb(value) for value in first)
    parts.append(_base83(red << 16 | green << 8 | blue, 4))
    for wave in others:
        red, green, blue = (_ninths(value / scale) for value in wave)
        parts.append(_base83((red * 19 + green) * 19 + blue, 2))
    return "".join(parts)


def dominant_color(image: Image.Image) -> str:
    """Return the colour that most of an RGB picture is near to, as "#rrggbb"."""
    small = image.resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    few = small.quantize(6)
    palette = few.getpalette() or []
    _, at = max(few.getcolors() or [(0, 0)])
    red, green, blue = palette[3 * int(str(at)) : 3 * int(str(at)) + 3]
    return f"#{red:02x}{green:02x}{blue:02x}"


def _waves(data: bytes) -> list[Colour]:
    """Return the strength of each wave in linear light, the mean first."""
    rows = [_across(data[3 * _SIDE * y : 3 * _SIDE * (y + 1)]) for y in range(_SIDE)]
    waves: list[Colour] = []
    for v in range(_DOWN):
        down = [math.cos(math.pi * v * y / _SIDE) for y in range(_SIDE)]
        for u in range(_ACROSS):
            norm = (1 if u == v == 0 else 2) / (_SIDE * _SIDE)
            sums = [
                norm * sum(down[y] * rows[y][u][channel] for y in range(_SIDE))
                for channel in range(3)
            ]
            waves.append((sums[0], sums[1], sums[2]))
    return waves


def _across(row: Sequence[int]) -> list[list[float]]:
    channels = [[_LINEAR[value] for value in row[channel::3]] for channel in range(3)]
    return [[sum(map(float.__mul__, wave, channel)) for channel in channels] for wave in _COSINES]


_COSINES: Final = tuple(
    [math.cos(math.pi * u * x / _SIDE) for x in range(_SIDE)] for u in range(_ACROSS)
)


def _srgb(value: float) -> int:
    value = min(max(value, 0.0), 1.0)
    curved = value * 12.92 if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
    return int(curved * 255 + 0.5)


def _ninths(value: float) -> int:
    return max(0, min(18, math.floor(math.copysign(math.sqrt(abs(value)), value) * 9 + 9.5)))


def _base83(value: int, length: int) -> str:
    return "".join(_DIGITS[value // 83**at % 83] for at in reversed(range(length)))
