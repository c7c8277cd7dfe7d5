"""Pixels of those who are asked in ratios and tiers: Google's own table, the rest by area."""

import math

from tests.upstream.faults import Fault, Refused


GOOGLE = {
    "1:1": (1024, 1024),
    "2:3": (832, 1248),
    "3:2": (1248, 832),
    "3:4": (864, 1184),
    "4:3": (1184, 864),
    "4:5": (896, 1152),
    "5:4": (1152, 896),
    "9:16": (768, 1344),
    "16:9": (1344, 768),
    "21:9": (1536, 672),
}
TIERS = {"512": 0.5, "0.5K": 0.5, "1K": 1.0, "2K": 2.0, "4K": 4.0}


def pixels(ratio: str, tier: str) -> tuple[int, int]:
    """Return width and height; refuses what is not a ratio or not a tier."""
    if tier not in TIERS:
        raise Refused(Fault.INVALID, f"Invalid image size '{tier}'.")
    width, height = GOOGLE.get(ratio) or _by_area(ratio)
    return round(width * TIERS[tier]), round(height * TIERS[tier])


def _by_area(ratio: str) -> tuple[int, int]:
    wide, _, tall = ratio.partition(":")
    try:
        share = math.sqrt(float(wide) / float(tall))
    except (ValueError, ZeroDivisionError) as error:
        raise Refused(Fault.INVALID, f"Invalid aspect ratio '{ratio}'.") from error
    return round(64 * share) * 16, round(64 / share) * 16
