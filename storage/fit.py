"""Fitting: how a request maps on what a deployment can, and what is lost on the way.

One pure function decides it for both processes: the service asks before a job is accepted
(`strict`, quotes, a model that cannot edit), the worker asks again for the deployment it has
picked. Every parameter ends applied, adapted or dropped, and the last two are named. What the
deployment cannot do at all (an edit, a mask, so many references) makes it unfit; another deployment
may be found.
"""

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

from storage.catalog import Deployment
from storage.dialect import Capabilities
from storage.request import Adaptation, Request


_TIERS = (("512", 700), ("1K", 1400), ("1.5K", 2000), ("2K", 2800), ("4K", 1 << 30))
_QUALITY_RANKS = {
    "low": 1,
    "standard": 2,
    "medium": 2,
    "hd": 3,
    "high": 3,
    "xhigh": 4,
    "max": 5,
}


@dataclass(frozen=True, slots=True)
class Fit:
    """The request as the deployment can be asked for it, and what differs from what was asked."""

    request: Request
    adaptations: tuple[Adaptation, ...] = ()


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a deployment cannot serve a request; `param` names the field that asks too much."""

    param: str
    reason: str


Fitting: TypeAlias = Fit | Unfit


def fit(request: Request, deployment: Deployment) -> Fitting:
    """Return what of `request` the deployment can be asked for."""
    can = deployment.capabilities
    if (refused := unfit(request, deployment)) is not None:
        return refused
    sized, lost = _sized(request, can)
    kept, dropped = _kept(sized, can)
    return Fit(kept, (*lost, *dropped))


def unfit(request: Request, deployment: Deployment) -> Unfit | None:
    """Return why the deployment cannot serve the request at all, or None when it can."""
    can = deployment.capabilities
    if request.is_edit and not can.edit:
        return Unfit("image", "cannot edit images")
    if not request.is_edit and not can.generate:
        return Unfit("image", "only edits images; give it one")
    if request.mask is not None and not can.mask:
        return Unfit("mask", "cannot edit within a mask")
    if len(request.images) > max(can.references, 1):
        return Unfit("image", f"takes at most {max(can.references, 1)} input images")
    return None


# -- size ------------------------------------------------------------------------------------------


def _sized(request: Request, can: Capabilities) -> tuple[Request, tuple[Adaptation, ...]]:
    if request.size == "auto":
        request = replace(request, size=None)
    if request.size is None and request.aspect_ratio is None and request.resolution is None:
        return request, ()
    if can.ratios:
        return _in_tiers(request, can)
    return _in_pixels(request, can)


def _in_tiers(request: Request, can: Capabilities) -> tuple[Request, tuple[Adaptation, ...]]:
    """Pick the nearest ratio in log space, and the tier by the longer edge."""
    adaptations = []
    wanted = _ratio(request)
    ratio = _nearest_ratio(wanted, can.ratios) if wanted is not None else None
    tier = request.resolution
    if tier is None and (pixels := request.pixels) is not None:
        tier = next(name for name, edge in _TIERS if max(pixels) <= edge)
    tier = _nearest_tier(tier, can.resolutions)
    used = " ".join(part for part in (ratio, tier) if part)
    if request.size is not None:
        adaptations.append(_adapted("size", request.size, used))
    elif ratio is not None and request.aspect_ratio != ratio:
        adaptations.append(_adapted("aspect_ratio", request.aspect_ratio, ratio))
    if request.size is None and request.resolution is not None and request.resolution != tier:
        adaptations.append(_changed("resolution", request.resolution, tier))
    return replace(request, size=None, aspect_ratio=ratio, resolution=tier), tuple(adaptations)


def _in_pixels(request: Request, can: Capabilities) -> tuple[Request, tuple[Adaptation, ...]]:
    """Pick exact pixels: as asked when they are allowed, else the nearest that are."""
    width, height = request.pixels or _pixels_of(request)
    if can.sizes:
        options = [_parse(size) for size in can.sizes if "x" in size]
        chosen = min(options, key=lambda option: _distance((width, height), option))
    else:
        chosen = _clamped(width, height, can)
    size = f"{chosen[0]}x{chosen[1]}"
    adaptations = () if request.size in {None, size} else (_adapted("size", request.size, size),)
    return replace(request, size=size, aspect_ratio=None, resolution=None), adaptations


def _clamped(width: int, height: int, can: Capabilities) -> tuple[int, int]:
    ratio = min(max(width / height, 1 / can.max_ratio), can.max_ratio)
    pixels = min(max(width * height, can.min_pixels), can.max_pixels)
    if (width, height) == _stepped(width, height, can) and (
        ratio == width / height and pixels == width * height and max(width, height) <= can.max_edge
    ):
        return width, height
    tall = math.sqrt(pixels / ratio)
    shrink = min(1.0, can.max_edge / max(tall, tall * ratio))
    near = _stepped(tall * ratio * shrink, tall * shrink, can)
    step = can.multiple_of
    while near[0] * near[1] > can.max_pixels and min(near) > step:
        near = (near[0] - step, near[1]) if near[0] >= near[1] else (near[0], near[1] - step)
    while near[0] * near[1] < can.min_pixels:
        near = (near[0] + step, near[1]) if near[0] <= near[1] else (near[0], near[1] + step)
    return near


def _stepped(width: float, height: float, can: Capabilities) -> tuple[int, int]:
    step = can.multiple_of
    top = can.max_edge // step * step
    return (
        min(max(round(width / step) * step, step), top),
        min(max(round(height / step) * step, step), top),
    )


def _pixels_of(request: Request) -> tuple[int, int]:
    """Turn a ratio and a tier into pixels, for those who cannot be asked in tiers."""
    ratio = _ratio(request) or 1.0
    edges = {"512": 512, "1K": 1024, "1.5K": 1536, "2K": 2048, "3K": 3072, "4K": 4096}
    edge = edges.get((request.resolution or "1K").upper(), 1024)
    area = edge * edge
    return max(round(math.sqrt(area * ratio)), 1), max(round(math.sqrt(area / ratio)), 1)


def _ratio(request: Request) -> float | None:
    if (pixels := request.pixels) is not None:
        return pixels[0] / pixels[1]
    return None if request.aspect_ratio in {None, "auto"} else _ratio_of(str(request.aspect_ratio))


def _ratio_of(text: str) -> float:
    wide, _, tall = text.partition(":")
    return float(wide) / float(tall)


def _nearest_ratio(wanted: float, ratios: tuple[str, ...]) -> str:
    return min(ratios, key=lambda ratio: abs(math.log(wanted / _ratio_of(ratio))))


def _nearest_tier(tier: str | None, tiers: tuple[str, ...]) -> str | None:
    if tier is None or not tiers:
        return None
    order = [name for name, _ in _TIERS]
    at = order.index(tier) if tier in order else order.index("1K")
    return min(tiers, key=lambda name: abs(order.index(name) - at) if name in order else len(order))


def _distance(wanted: tuple[int, int], option: tuple[int, int]) -> float:
    ratio = abs(math.log((wanted[0] / wanted[1]) / (option[0] / option[1])))
    area = abs(math.log((wanted[0] * wanted[1]) / (option[0] * option[1])))
    return 4 * ratio + area


def _parse(size: str) -> tuple[int, int]:
    width, _, height = size.partition("x")
    return int(width), int(height)


# -- everything else -------------------------------------------------------------------------------


def _kept(request: Request, can: Capabilities) -> tuple[Request, tuple[Adaptation, ...]]:
    """Keep what can be said; a parameter that would change nothing is dropped without a word."""
    adaptations = []
    changes: dict[str, str | None] = {}
    quality = _quality(request.quality, can)
    if request.quality not in {None, "auto", quality}:
        adaptations.append(_changed("quality", request.quality, quality))
    changes["quality"] = quality
    if request.background == "transparent" and not can.transparency:
        adaptations.append(_changed("background", request.background, None))
    if request.background is not None and not can.transparency:
        changes["background"] = None
    for param, able in (
        ("style", can.style),
        ("moderation", can.moderation),
        ("input_fidelity", can.input_fidelity),
        ("seed", can.seed),
        ("negative_prompt", can.negative_prompt),
    ):
        asked = getattr(request, param)
        if asked is not None and not able:
            changes[param] = None
            shown = None if param == "negative_prompt" else asked
            adaptations.append(_changed(param, shown, None))
    if not can.user:
        changes["user"] = None
    if not can.stream:
        changes["partial_images"] = None
    return replace(request, **changes), tuple(adaptations)  # type: ignore[arg-type]  # by name


def _quality(asked: str | None, can: Capabilities) -> str | None:
    if asked is None or not can.qualities:
        return None
    if asked == "auto" or asked in can.qualities:
        return asked if asked != "auto" else None
    rank = _QUALITY_RANKS.get(asked, 2)
    return min(can.qualities, key=lambda name: (abs(_QUALITY_RANKS.get(name, 2) - rank), name))


def _changed(param: str, requested: str | float | None, used: str | float | None) -> Adaptation:
    return (
        _adapted(param, requested, used)
        if used is not None
        else Adaptation(param=param, action="dropped", requested=requested)
    )


def _adapted(param: str, requested: str | float | None, used: str | float | None) -> Adaptation:
    return Adaptation(param=param, action="adapted", requested=requested, used=used)
