"""What to draw: the wish that the sketch provider sends to a child."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """One sketch. The same wish always gives the same bytes, on the same release of Pillow.

    `width` and `height` are pixels; for an edit, None means as large as the first image. `quality`
    is "low", "medium" or "high"; a `detail` below 1 draws that much coarser, at the same size.
    """

    prompt: str = field(repr=False)
    seed: int
    index: int = 0
    width: int | None = None
    height: int | None = None
    format: str = "png"
    compression: int | None = None
    background: str | None = None
    quality: str | None = None
    detail: float = 1.0
