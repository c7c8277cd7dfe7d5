"""Colours that go together, chosen by a hash and mixed in OKLCH, where equal steps look equal."""

import random
from math import cos, radians, sin
from typing import NamedTuple, TypeAlias


Colour: TypeAlias = tuple[int, int, int]

# Screens show less colour at both ends of the ramp than in its middle.
_VIVIDNESS = (0.8, 1.1, 1.2, 1.0, 0.5)


class Palette(NamedTuple):
    """A ramp of one mood from `deep` to `light`, and an `accent` from across the colour wheel."""

    deep: Colour
    low: Colour
    middle: Colour
    high: Colour
    light: Colour
    accent: Colour


def choose(chance: random.Random) -> Palette:
    """Return a palette; the same state of `chance` gives the same one."""
    hue, drift = chance.uniform(0, 360), chance.choice((-1, 1)) * chance.uniform(35, 95)
    strength = chance.uniform(0.075, 0.13)
    ramp = [
        _oklch(0.28 + 0.16 * step, strength * vivid, hue + drift * step / 4)
        for step, vivid in enumerate(_VIVIDNESS)
    ]
    return Palette._make([*ramp, _oklch(0.79, 0.125, hue + drift + 165)])


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour that is `share` of the way from `first` to `second`."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _oklch(lightness: float, chroma: float, hue: float) -> Colour:
    """Convert to sRGB with the published matrices of OKLab, clipped to what a screen can show."""
    a, b = chroma * cos(radians(hue)), chroma * sin(radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        _gamma(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
        _gamma(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
        _gamma(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
    )


def _gamma(linear: float) -> int:
    linear = min(max(linear, 0.0), 1.0)
    encoded = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(255 * encoded)
