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
_EDGES = {"512": 512, "1K": 1024, "1.5K": 1536, "2K": 2048, "3K": 3072, "4K": 4096}
_NEAR = 4  # steps around the ideal width that are looked at first
# How far a shape and an area may be off, as logarithms, and still be what was asked.
_SAME_SHAPE = 0.03
_SAME_TIER = 0.2
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
    if request.aspect_ratio == "auto":
        request = replace(request, aspect_ratio=None)
    if request.size is None and request.aspect_ratio is None and request.resolution is None:
        return request, ()
    return _in_tiers(request, can) if can.ratios else _in_pixels(request, can)


def _in_tiers(request: Request, can: Capabilities) -> tuple[Request, tuple[Adaptation, ...]]:
    """Pick the nearest ratio in log space, and the tier by the longer edge."""
    adaptations = []
    wanted = _ratio(request)
    ratio = _nearest_ratio(wanted, can.ratios) if wanted is not None else None
    asked = request.resolution
    if asked is None and (pixels := request.pixels) is not None:
        asked = next(name for name, edge in _TIERS if max(pixels) <= edge)
    tier = _nearest_tier(asked, can.resolutions)
    if request.size is not None:
        used = " ".join(part for part in (ratio, tier) if part)
        adaptations.append(_adapted("size", request.size, used))
    if request.aspect_ratio is not None and ratio is not None and not _same(request, ratio):
        adaptations.append(_adapted("aspect_ratio", request.aspect_ratio, ratio))
    if request.resolution is not None and request.resolution.upper() != tier:
        adaptations.append(_changed("resolution", request.resolution, tier))
    return replace(request, size=None, aspect_ratio=ratio, resolution=tier), tuple(adaptations)


def _in_pixels(request: Request, can: Capabilities) -> tuple[Request, tuple[Adaptation, ...]]:
    """Pick exact pixels: as asked when they are allowed, else the nearest that are."""
    asked = request.pixels or _pixels_of(request)
    exact = [_parse(size) for size in can.sizes if "x" in size]
    if can.sizes:
        chosen = min(exact, key=lambda option: _distance(asked, option), default=None)
    else:
        chosen = _nearest_pixels(asked, can)
    size = None if chosen is None else f"{chosen[0]}x{chosen[1]}"
    fitted = replace(request, size=size, aspect_ratio=None, resolution=None)
    return fitted, _lost_in_pixels(request, chosen, size)


def _lost_in_pixels(
    request: Request, chosen: tuple[int, int] | None, size: str | None
) -> tuple[Adaptation, ...]:
    """Name what the chosen pixels are not; steps of a few pixels do not change a ratio."""
    lost = []
    if request.size not in {None, size}:
        lost.append(_changed("size", request.size, size))
    width, height = chosen or (1, 1)
    if (ratio := request.aspect_ratio) is not None and (
        chosen is None or _far(width / height, _ratio_of(ratio), _SAME_SHAPE)
    ):
        lost.append(_changed("aspect_ratio", ratio, size))
    if (tier := request.resolution) is not None and (
        chosen is None or _far(math.sqrt(width * height), _edge_of(tier), _SAME_TIER)
    ):
        lost.append(_changed("resolution", tier, size))
    return tuple(lost)


def _far(value: float, wanted: float | None, bound: float) -> bool:
    return wanted is None or abs(math.log(value / wanted)) > bound


def _nearest_pixels(asked: tuple[int, int], can: Capabilities) -> tuple[int, int] | None:
    """Return the allowed size that is nearest, or None when the bounds allow none at all."""
    if _is_allowed(asked, can):
        return asked
    ratio = min(max(asked[0] / asked[1], 1 / can.max_ratio), can.max_ratio)
    area = min(max(asked[0] * asked[1], can.min_pixels), can.max_pixels)
    width = min(math.sqrt(area * ratio), can.max_edge, can.max_edge * ratio)
    step = can.multiple_of
    middle = max(round(width / step), 1)
    steps = range(max(middle - _NEAR, 1), middle + _NEAR + 1)
    near = _allowed_of(steps, ratio, can) or _allowed_of(range(1, can.max_edge + 1), ratio, can)
    return min(near, key=lambda option: _distance(asked, option), default=None)


def _allowed_of(steps: range, ratio: float, can: Capabilities) -> list[tuple[int, int]]:
    """Return, for each width in steps, the allowed height that comes nearest to the ratio."""
    step = can.multiple_of
    options = []
    for width in (at * step for at in steps if at * step <= can.max_edge):
        least = max(math.ceil(can.min_pixels / width), math.ceil(width / can.max_ratio), 1)
        most = min(can.max_edge, can.max_pixels // width, math.floor(width * can.max_ratio))
        low, high = -(-least // step) * step, most // step * step
        height = min(max(round(width / ratio / step) * step, low), high)
        if low <= high and _is_allowed((width, height), can):
            options.append((width, height))
    return options


def _is_allowed(size: tuple[int, int], can: Capabilities) -> bool:
    width, height = size
    return (
        width % can.multiple_of == 0
        and height % can.multiple_of == 0
        and max(size) <= can.max_edge
        and max(size) <= min(size) * can.max_ratio
        and can.min_pixels <= width * height <= can.max_pixels
    )


def _pixels_of(request: Request) -> tuple[int, int]:
    """Turn a ratio and a tier into pixels, for those who cannot be asked in tiers."""
    ratio = _ratio(request) or 1.0
    edge = _edge_of(request.resolution or "1K") or 1024
    return max(round(edge * math.sqrt(ratio)), 1), max(round(edge / math.sqrt(ratio)), 1)


def _ratio(request: Request) -> float | None:
    if (pixels := request.pixels) is not None:
        return pixels[0] / pixels[1]
    return None if request.aspect_ratio is None else _ratio_of(request.aspect_ratio)


def _ratio_of(text: str) -> float:
    wide, _, tall = text.partition(":")
    return float(wide) / float(tall)


def _same(request: Request, ratio: str) -> bool:
    return math.isclose(_ratio_of(request.aspect_ratio or ratio), _ratio_of(ratio))


def _nearest_ratio(wanted: float, ratios: tuple[str, ...]) -> str:
    return min(ratios, key=lambda ratio: abs(math.log(wanted / _ratio_of(ratio))))


def _nearest_tier(tier: str | None, tiers: tuple[str, ...]) -> str | None:
    if tier is None or not tiers:
        return None
    asked = _edge_of(tier) or 1024
    return min(tiers, key=lambda name: abs(math.log((_edge_of(name) or math.inf) / asked)))


def _edge_of(tier: str) -> int | None:
    """Return the side of a tier's square in pixels, or None for a word that is no known tier."""
    return _EDGES.get(tier.upper())


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
    if request.output_compression is not None and not _compresses(request, can):
        changes["output_compression"] = None
        adaptations.append(_changed("output_compression", request.output_compression, None))
    for param, able in (
        ("style", can.style),
        ("moderation", can.moderation),
        ("input_fidelity", can.input_fidelity),
        ("seed", can.seed),
        ("negative_prompt", can.negative_prompt),
        ("partial_images", can.stream or not request.partial_images),
    ):
        asked = getattr(request, param)
        if asked is not None and not able:
            changes[param] = None
            shown = None if param == "negative_prompt" else asked
            adaptations.append(_changed(param, shown, None))
    for param, able in (
        ("user", can.user),
        ("watermark", can.watermark),
        ("partial_images", can.stream),
    ):
        if not able:
            changes[param] = None
    return replace(request, **changes), tuple(adaptations)  # type: ignore[arg-type]  # by name


def _compresses(request: Request, can: Capabilities) -> bool:
    """Say whether somebody applies the compression: the upstream, or we when we convert."""
    native = request.output_format is None or request.output_format in can.formats
    return can.compression if native else True


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
