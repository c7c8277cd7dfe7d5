"""GIF: a screen, then blocks of sub-blocks of at most 255 bytes, up to a trailer."""

from struct import unpack_from
from typing import Final

from storage.facts import BadImage, Facts, Limits, check_size


# A GIF is all small parts, so the walk of a long animation ends here and the count is a floor.
_MAX_FRAMES: Final = 1000
_MAX_SUB_BLOCKS: Final = 200_000
_EXTENSION: Final = 0x21
_GRAPHIC_CONTROL: Final = 0xF9
_PICTURE: Final = 0x2C
_TRAILER: Final = 0x3B


def walk(view: memoryview, limits: Limits | None) -> Facts:
    """Count the frames, at most 1000 of them, and return the facts."""
    width, height, flags = unpack_from("<HHB", view, 6)
    check_size(width, height, limits)
    at, budget = 13 + _table(flags), _MAX_SUB_BLOCKS
    frames, alpha, interlaced = 0, False, False
    while (kind := view[at]) != _TRAILER:
        if kind == _EXTENSION:
            alpha = alpha or (view[at + 1] == _GRAPHIC_CONTROL and bool(view[at + 3] & 1))
            start = at + 2
        elif kind == _PICTURE:
            frames += 1
            interlaced = interlaced or bool(view[at + 9] & 0x40)
            start = at + 11 + _table(view[at + 9])
        else:
            raise BadImage("The GIF is damaged: a block does not begin where it should")
        at, budget = _skip(view, start, budget)
        if frames >= _MAX_FRAMES:
            break
    if not frames:
        raise BadImage("The GIF has no pixels")
    return Facts(
        format="gif",
        width=width,
        height=height,
        bytes=len(view),
        channels=3 + alpha,
        alpha=alpha,
        frames=frames,
        progressive=interlaced,
        trailing=len(view) - at - 1 if view[at] == _TRAILER else 0,
    )


def _table(flags: int) -> int:
    """Return the bytes of the colour table that `flags` announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _skip(view: memoryview, at: int, budget: int) -> tuple[int, int]:
    """Step over sub-blocks to the empty one; return what follows and what is left of `budget`."""
    while size := view[at]:
        at += 1 + size
        budget -= 1
        if budget < 0:
            raise BadImage("The GIF has too many blocks")
    return at + 1, budget
