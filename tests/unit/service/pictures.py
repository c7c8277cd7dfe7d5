"""Small pictures made by hand, so that no test needs a library to have one."""

import struct
import zlib


def png(width: int = 64, height: int = 64, *, alpha: bool = False, value: int = 128) -> bytes:
    """Return a PNG of one grey, or fully transparent, colour."""
    colour, pixel = (6, bytes((value, value, value, 0))) if alpha else (2, bytes((value,) * 3))
    rows = (b"\x00" + pixel * width) * height
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(rows, 1)),
            _chunk(b"IEND", b""),
        )
    )


def noise(size: int) -> bytes:
    """Return a PNG of about `size` bytes, by way of a chunk that viewers skip."""
    plain = png(64, 64)
    end = plain[-12:]
    return plain[:-12] + _chunk(b"xtRa", bytes(size)) + end


def _chunk(kind: bytes, data: bytes) -> bytes:
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
