"""Images for tests, built byte by byte: honest ones, odd ones and hostile ones."""

import random
import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

from PIL import Image


PHOTOGRAPH = Path(__file__).parent / "data" / "photograph.jpg"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def photograph() -> bytes:
    """Return a real photograph: a JPEG of 512 × 600."""
    return PHOTOGRAPH.read_bytes()


def pixels(
    mode: str = "RGB", size: tuple[int, int] = (64, 48), *, seed: int = 1, cells: int = 8
) -> Image.Image:
    """Return a smooth random picture; the alpha of RGBA runs from 0 to 255, left to right."""
    noise = random.Random(seed).randbytes(cells * cells * 3)
    image = Image.frombytes("RGB", (cells, cells), noise).resize(size, Image.Resampling.BICUBIC)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").rotate(90).resize(size))
        return image
    return image.convert(mode)


def encoded(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    """Return the image as a file."""
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(
    kind: str = "png",
    mode: str = "RGB",
    size: tuple[int, int] = (64, 48),
    *,
    seed: int = 1,
    **options: Any,
) -> bytes:
    """Return a small honest image file."""
    return encoded(pixels(mode, size, seed=seed), kind, **options)


def heavy_png(size: tuple[int, int] = (1024, 1024), seed: int = 1) -> bytes:
    """Return a PNG about as heavy as what a model makes: 2 bytes a pixel."""
    return encoded(pixels("RGB", size, seed=seed, cells=size[0] // 4), compress_level=1)


def large_png(side: int) -> bytes:
    """Return a large square PNG of one colour."""
    return encoded(Image.new("RGB", (side, side), "teal"), compress_level=1)


def large_jpeg(side: int) -> bytes:
    """Return a large square progressive JPEG of one colour."""
    return encoded(Image.new("RGB", (side, side), "teal"), "jpeg", progressive=True)


def decoded(data: bytes) -> Image.Image:
    """Return the pixels of a file."""
    image = Image.open(BytesIO(data))
    image.load()
    return image


def mask(
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    *,
    mode: str = "RGBA",
    kind: str = "png",
) -> bytes:
    """Return a mask that lets `box` change: alpha 0 within, 255 without."""
    image = Image.new(mode, size, (0, 0, 0, 255)[: len(mode)])
    image.paste((0,) * len(mode), box)
    return encoded(image, kind)


# --- PNG, chunk by chunk


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """Return a PNG chunk with its checksum."""
    return pack(">I", len(body)) + kind + body + pack(">I", zlib.crc32(kind + body))


def header(width: int, height: int, bits: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    """Return an IHDR chunk."""
    return chunk(b"IHDR", pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace))


def rows(width: int, height: int, bytes_per_pixel: int = 3) -> bytes:
    """Return an IDAT chunk with that many black pixels."""
    return chunk(b"IDAT", zlib.compress(bytes((width * bytes_per_pixel + 1) * height)))


def png(*chunks: bytes) -> bytes:
    """Return a PNG of these chunks."""
    return PNG_SIGNATURE + b"".join(chunks)


END = chunk(b"IEND")


def png_bomb(width: int = 50_000, height: int = 50_000) -> bytes:
    """Return a sound PNG whose header promises more than anybody should decode."""
    return png(header(width, height), chunk(b"IDAT", zlib.compress(bytes(1000))), END)


def deep_png(size: tuple[int, int] = (16, 16)) -> bytes:
    """Return a PNG of 16 bits a sample, half of full red."""
    row = b"\x00" + pack(">HHH", 0x8000, 0, 0) * size[0]
    return png(header(*size, bits=16), chunk(b"IDAT", zlib.compress(row * size[1])), END)


def animated_png(frames: int = 400) -> bytes:
    """Return a PNG that says it has so many frames."""
    control = chunk(b"acTL", pack(">II", frames, 0))
    return png(header(8, 8), control, rows(8, 8), END)


def with_chunk(data: bytes, kind: bytes, body: bytes) -> bytes:
    """Return the PNG with one more chunk right after its header."""
    return data[:33] + chunk(kind, body) + data[33:]


def long_png() -> bytes:
    """Return a PNG whose IDAT inflates to 64 MB for an image of 8 × 8."""
    return png(header(8, 8), chunk(b"IDAT", zlib.compress(bytes(64_000_000))), END)


# --- JPEG, segment by segment


def segment(marker: int, body: bytes) -> bytes:
    """Return a JPEG segment."""
    return bytes((0xFF, marker)) + pack(">H", len(body) + 2) + body


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """Return the JPEG with one more segment right after its start."""
    return data[:2] + segment(marker, body) + data[2:]


def resized_jpeg(data: bytes, width: int, height: int) -> bytes:
    """Return the JPEG with another size in its header."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        at = data.find(marker)
        if at > 0:
            return data[: at + 5] + pack(">HH", height, width) + data[at + 9 :]
    raise ValueError("no frame header")


def many_scans(count: int) -> bytes:
    """Return a progressive JPEG whose last scan comes `count` times more."""
    data = picture("jpeg", progressive=True)
    at = data.rfind(b"\xff\xda")
    return data[:-2] + data[at:-2] * count + data[-2:]


def oriented(orientation: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """Return a JPEG with an EXIF orientation and a position on the globe."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "<script>alert(1)</script>\r\nX-Evil: 1"
    exif.get_ifd(0x8825)[1] = "N"
    return picture("jpeg", size=size, exif=exif.tobytes(), quality=95)


# --- WebP and GIF


def webp_bomb(width: int = 9000, height: int = 9000) -> bytes:
    """Return a lossless WebP of 28 bytes in which every pixel takes no bit at all."""
    codes = int("0001" * 5, 2) << 3  # no transform, cache or meta codes; five codes of one symbol
    number = codes << 32 | (height - 1) << 14 | (width - 1)
    body = b"\x2f" + number.to_bytes(7, "little")
    return riff(riff_chunk(b"VP8L", body))


def riff_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a RIFF chunk, padded to an even length."""
    return kind + pack("<I", len(body)) + body + b"\x00" * (len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    """Return a WebP of these chunks."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + pack("<I", len(body)) + body


def animated_webp(frames: int = 3) -> bytes:
    """Return a real animation."""
    first, *others = (pixels(seed=seed) for seed in range(frames))
    return encoded(first, "webp", save_all=True, append_images=others, duration=50)


def animated_gif(frames: int = 3000) -> bytes:
    """Return a GIF of so many frames of one pixel."""
    frame = b"\x2c" + pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame * frames + b"\x3b"


# --- collections


def bombs() -> dict[str, bytes]:
    """Return images that are whole but far larger than what is taken."""
    return {
        "png 50000 x 50000": png_bomb(),
        "png 2^31-1 squared": png_bomb(2**31 - 1, 2**31 - 1),
        "png 88 Mpx": png_bomb(9380, 9380),
        "png 169 Mpx": png_bomb(13_000, 13_000),
        "png 1000000 x 1": png_bomb(1_000_000, 1),
        "webp 81 Mpx": webp_bomb(),
        "webp 16383 squared": webp_bomb(16_384, 16_384),
        "jpeg 65500 squared": resized_jpeg(picture("jpeg"), 65_500, 65_500),
        "progressive jpeg 81 Mpx": resized_jpeg(picture("jpeg", progressive=True), 9000, 9000),
        "gif 65535 squared": b"GIF89a" + pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b"\x3b",
    }


def crowds() -> dict[str, bytes]:
    """Return images of too many frames."""
    return {
        "apng 400 frames": animated_png(),
        "webp 3 frames": animated_webp(),
        "gif 3000 frames": animated_gif(),
    }


def ruins() -> dict[str, bytes]:
    """Return files that are damaged, cut short or built wrongly."""
    sound, jpeg, webp = picture(), picture("jpeg"), picture("webp")
    flipped = bytearray(sound)
    flipped[len(sound) // 2] ^= 0x10
    return {
        "png bad crc": bytes(flipped),
        "png bad header crc": sound[:29] + b"\0\0\0\0" + sound[33:],
        "png cut": sound[: len(sound) // 2],
        "png without end": sound[:-12],
        "png signature only": PNG_SIGNATURE,
        "png header only": sound[:33],
        "png without pixels": png(header(8, 8), END),
        "png without a header": png(rows(8, 8), END),
        "png of no width": png(header(0, 8), rows(0, 8), END),
        "png of an odd depth": png(header(8, 8, bits=3), rows(8, 8), END),
        "png without its palette": png(header(8, 8, colour=3), rows(8, 8, 1), END),
        "png two headers": png(header(8, 8), header(9, 9), rows(8, 8), END),
        "png with pixels apart": png(
            header(8, 8), rows(8, 8), chunk(b"tEXt", b"a\0b"), rows(8, 8), END
        ),
        "png unknown critical": with_chunk(sound, b"ABCD", b""),
        "png chunk named oddly": with_chunk(sound, b"a\0\r\n", b""),
        "png 20000 texts": sound[:33] + chunk(b"tEXt", b"k\0v") * 20_000 + sound[33:],
        "png chunk of 4 GB": sound[:33] + b"\xff\xff\xff\xffIDAT",
        "jpeg cut": jpeg[: len(jpeg) // 2],
        "jpeg without end": jpeg[:-2],
        "jpeg start only": jpeg[:3],
        "jpeg two frames": with_segment(jpeg, 0xC0, bytes.fromhex("0800080008") + b"\1\1\x11\0"),
        "jpeg lossless": jpeg.replace(b"\xff\xc0", b"\xff\xc3", 1),
        "jpeg of no height": resized_jpeg(jpeg, 64, 0),
        "jpeg 1000 scans": many_scans(1000),
        "jpeg 20000 segments": jpeg[:2] + segment(0xFE, b"") * 20_000 + jpeg[2:],
        "jpeg without pixels": b"\xff\xd8\xff\xd9",
        "jpeg marker astray": jpeg[:2] + b"\0\0" + jpeg[2:],
        "webp cut": webp[: len(webp) // 2],
        "webp header only": webp[:12],
        "webp empty": riff(),
        "webp without pixels": riff(riff_chunk(b"VP8X", bytes(10))),
        "webp two sizes": riff(
            riff_chunk(b"VP8X", bytes(4) + b"\7\0\0\7\0\0"), webp_bomb(64, 64)[12:]
        ),
        "webp of unknown kind": riff(riff_chunk(b"VP9 ", bytes(20))),
        "webp chunk too long": riff(b"VP8L\xff\xff\xff\x7f" + webp_bomb(8, 8)[20:]),
        "gif header only": b"GIF89a",
        "gif cut": animated_gif(2)[:-4],
        "gif without pixels": b"GIF89a" + pack("<HHBBB", 1, 1, 0, 0, 0) + b"\x3b",
        "gif block astray": animated_gif(1)[:-1] + b"\x99\x3b",
    }


def strangers() -> dict[str, bytes]:
    """Return files of other kinds, whatever they may be named."""
    small = pixels()
    return {
        "empty": b"",
        "one byte": b"\x89",
        "text": b"no image at all, " * 10,
        "html": b"<!DOCTYPE html><html><body><script>alert(1)</script></body></html>",
        "html after a comment": b"<!-- x --><html></html>",
        "json": b'{"error": {"message": "no"}}',
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        "svg with an entity": (
            b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
            b"<svg>&x;</svg>"
        ),
        "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
        "bmp": encoded(small, "bmp"),
        "tiff": encoded(small, "tiff"),
        "ico": encoded(small, "ico"),
        "avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1",
        "heic": b"\0\0\0\x1cftypheic\0\0\0\0heicmif1",
        "zip": b"PK\x03\x04" + bytes(40),
        "gzip": b"\x1f\x8b\x08\0" + bytes(40),
        "wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(20),
    }


def polyglots() -> dict[str, bytes]:
    """Return sound images with something else behind their end."""
    return {
        "png and html": picture() + b"<script>alert(1)</script>",
        "jpeg and zip": picture("jpeg") + b"PK\x03\x04" + bytes(40),
        "webp and html": picture("webp") + b"<script>alert(1)</script>",
        "gif and script": animated_gif(1) + b"*/alert(1)//",
    }


def joined(parts: Iterable[dict[str, bytes]]) -> dict[str, bytes]:
    """Return several collections as one."""
    return {name: data for part in parts for name, data in part.items()}
