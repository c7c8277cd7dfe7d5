"""How a parent and its child speak: a length, a line of JSON, and the bytes that it announces."""

import json
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Any, Final


HEAD: Final = Struct("<I")


def head(meta: Mapping[str, Any], blobs: Sequence[bytes]) -> bytes:
    """Return what is sent before the `blobs`."""
    text = json.dumps({**meta, "sizes": [len(blob) for blob in blobs]}).encode()
    return HEAD.pack(len(text)) + text


def sizes(meta: dict[str, Any]) -> list[int]:
    """Take the sizes of the blobs that follow out of `meta`."""
    return [int(size) for size in meta.pop("sizes")]
