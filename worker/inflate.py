"""Compressed answers, inflated under a count.

We ask for plain bytes, but some servers compress all the same, and a kilobyte can inflate to a
megabyte. So nothing is inflated past what the caller allows, nor past what an honest text would.
"""

import zlib
from collections.abc import Iterator
from typing import Final


PIECE: Final = 256 * 1024
# An honest body hardly shrinks by more; a bomb does by a thousand.
MAX_RATIO: Final = 64
FREE: Final = 1024 * 1024
MAGIC: Final = b"\x1f"
ENCODINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})


class Overflow(ValueError):
    """The body inflates past its limit, or further than an honest one would."""


class Garbled(ValueError):
    """The body is not compressed in the way that it claims to be, or in none that we read."""


class Inflater:
    """One body on its way from compressed to plain: at most *limit* bytes come out.

    Raises `Garbled` for an *encoding* other than gzip and deflate.
    """

    def __init__(self, encoding: str, *, limit: int) -> None:
        if encoding not in ENCODINGS:
            raise Garbled(encoding)
        self._gzip = encoding != "deflate"
        self._limit = limit
        self._taken = 0
        self._given = 0
        self._stream = zlib.decompressobj(31 if self._gzip else 15)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what *data* adds, in pieces of at most `PIECE` bytes.

        Raises `Overflow` and `Garbled`.
        """
        if self._taken == 0 and not self._gzip and data[0] & 0x0F != 8:
            self._stream = zlib.decompressobj(-15)  # some servers take deflate at its word
        self._taken += len(data)
        if self._stream.eof:
            data = self._next_member(data)
        pending = bool(data)
        while pending:
            piece = self._decompressed(data)
            self._count(len(piece))
            if self._stream.eof:
                data = self._next_member(self._stream.unused_data)
                pending = bool(data)
            else:
                data = self._stream.unconsumed_tail
                pending = bool(data) or len(piece) == PIECE
            if piece:
                yield piece

    def finish(self) -> None:
        """Raise `Garbled` unless the compressed body was whole, or empty."""
        if self._taken and not self._stream.eof:
            raise Garbled

    def _decompressed(self, data: bytes) -> bytes:
        try:
            return self._stream.decompress(data, PIECE)
        except zlib.error:
            raise Garbled from None

    def _next_member(self, data: bytes) -> bytes:
        """Return what of *data* is worth reading after an end: a further member, or nothing."""
        if not self._gzip or not data.startswith(MAGIC):
            return b""
        self._stream = zlib.decompressobj(31)
        return data

    def _count(self, size: int) -> None:
        self._given += size
        if self._given > min(self._limit, FREE + MAX_RATIO * self._taken):
            raise Overflow
