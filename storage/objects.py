"""Where bytes are kept: one small protocol, a disk or a bucket behind it.

Whoever keeps an image must not know whether it lands in a folder or in S3, so what both promise is
said here once: what a key may look like, what a link may say, and the two ways in which keeping can
fail. Keys are made by Darkroom and by nobody else; the strict shape makes it certain that no file
name or header of a stranger ever becomes one.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from pathlib import Path
from typing import Final, NamedTuple, Protocol
from urllib.parse import quote

from storage.errors import Error, Invalid, Unavailable
from storage.settings import ObjectsSettings


CHUNK: Final = 256 * 1024  # bytes; the most that a stream hands out at once
MAX_LIFETIME: Final = 86_400.0  # seconds that a link may live
MAX_KEY: Final = 700  # characters; S3 stops at 1024 with its prefix
MAX_FILENAME: Final = 120  # characters

_SEGMENT: Final = r"[A-Za-z0-9_-][A-Za-z0-9._=-]{0,159}"
_KEY: Final = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
# What a browser may be handed: pictures and plain data, never a page, a script or SVG.
_CONTENT_TYPE: Final = re.compile(
    r"image/(?!svg)[a-z0-9.+-]{1,40}|application/(?:json|octet-stream)"
)
_NOT_IN_A_NAME: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069/\\]"
)
_NOT_IN_QUOTES: Final = re.compile(r"[^A-Za-z0-9 ._()+-]")


class Link(NamedTuple):
    """A signed URL that needs no key and stops working at `expires_at` (Unix seconds)."""

    url: str
    expires_at: float


class Upload(NamedTuple):
    """A signed URL to which one object can be put, with these headers, until `expires_at`."""

    url: str
    headers: dict[str, str]
    expires_at: float


class Stat(NamedTuple):
    """What is known of an object without reading it; `size` is in bytes."""

    size: int
    content_type: str


class ObjectsUnavailable(Unavailable):
    """The place where bytes are kept does not answer or is full: try again."""


class ObjectsRefused(Error):
    """Credentials, bucket or permission are wrong: trying again will not help."""


class Objects(Protocol):
    """Bytes under keys.

    Every method may raise `ObjectsUnavailable` or `ObjectsRefused`, and `Invalid` for a key that is
    not one. A key is at most 700 of `A-Z a-z 0-9 . _ = - /`, and ends with the extension of its
    type: a disk remembers no other.
    """

    async def put(self, key: str, data: bytes | Path, *, content_type: str) -> None:
        """Keep `data` under `key`, whole or not at all, in place of what was there.

        A file is consumed: gone when this returns, untouched when it raises.
        """

    async def get(self, key: str, *, limit: int) -> bytes | None:
        """Return the whole object, or None when there is none; `TooLarge` above `limit` bytes."""

    async def stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None] | None:
        """Return the bytes from `start` up to, without, `end` in chunks of at most 256 KiB.

        None when there is no object. Past its end there are no bytes, as with a slice. Whoever does
        not read to the end closes it (`contextlib.aclosing`).
        """

    async def stat(self, key: str) -> Stat | None:
        """Return size and type, or None when there is no object."""

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects; those that are not there are fine."""

    def link(
        self, key: str, *, content_type: str, filename: str, lifetime: float, now: float
    ) -> Link:
        """Sign a URL that serves the object as a download of that type and name.

        `lifetime` is in seconds, above 0 and at most 86,400, else `Invalid`. Nothing is asked of
        anybody: the object need not exist.
        """

    def upload_link(
        self, key: str, *, content_type: str, size: int, lifetime: float, now: float
    ) -> Upload:
        """Sign a URL to which `size` bytes of that type can be put, whole, without a key.

        `lifetime` is as of a link. What was put may be anything until somebody looks at it.
        """

    def keys(self, prefix: str) -> AsyncIterator[tuple[str, float]]:
        """Yield (key, last change in Unix seconds) of the objects under a prefix of keys."""

    async def check(self) -> None:
        """Write, read and remove a probe object, or say why that cannot be done."""

    async def close(self) -> None:
        """Let go of threads and connections."""


def open_objects(settings: ObjectsSettings, *, secret: bytes, public_url: str) -> Objects:
    """Return the objects that the settings name.

    `secret` signs the links of a local folder and `public_url` is where the service hands them out;
    S3 signs with its own credentials and needs neither.
    """
    if settings.kind == "s3":
        from storage.s3 import S3Objects  # noqa: PLC0415 — boto3 costs 30 MB of memory

        return S3Objects(settings)
    from storage.local import LocalObjects  # noqa: PLC0415 — stands on this module

    return LocalObjects(settings.path, secret=secret, base_url=public_url, fsync=settings.fsync)


def checked_key(key: str) -> str:
    """Return the key, or raise `Invalid`: no dots to climb on, nothing absolute, nothing odd."""
    if len(key) > MAX_KEY or _KEY.fullmatch(key) is None:
        raise Invalid("This is not the key of an object.")
    return key


def checked_prefix(prefix: str) -> str:
    """Return the beginning of keys, which may be empty or end with a slash, or raise `Invalid`."""
    if prefix:
        checked_key(prefix.removesuffix("/"))
    return prefix


def checked_range(start: int, end: int | None) -> None:
    """Raise `Invalid` unless start is not negative and before end."""
    if start < 0 or (end is not None and end <= start):
        raise Invalid("There are no bytes in this range.")


def checked_type(content_type: str) -> str:
    """Return a content type that is safe to hand to a browser, or raise `Invalid`."""
    if _CONTENT_TYPE.fullmatch(content_type) is None:
        raise Invalid("Objects of this content type are not kept.")
    return content_type


def checked_lifetime(lifetime: float) -> float:
    """Return the lifetime of a link, or raise `Invalid`: more than none, at most one day."""
    if not 0 < lifetime <= MAX_LIFETIME:
        raise Invalid("A link lives for more than 0 and at most 86400 seconds.")
    return lifetime


def clean_filename(filename: str) -> str:
    """Return the name without what a file system, a header or an eye could be fooled by."""
    return _NOT_IN_A_NAME.sub("_", filename)[:MAX_FILENAME].strip(". ") or "image"


def disposition(filename: str) -> str:
    """Return the Content-Disposition of a download called `filename` (RFC 6266).

    Old clients read the first name, where all but the plainest characters became underscores; the
    others read the second, which is whole.
    """
    name = clean_filename(filename)
    plain = _NOT_IN_QUOTES.sub("_", name)
    header = f'attachment; filename="{plain}"'
    return header if plain == name else f"{header}; filename*=UTF-8''{quote(name, safe='')}"
