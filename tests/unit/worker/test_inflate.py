"""Compressed bodies, honest and not."""

import gzip
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.inflate import Garbled, Inflater, Overflow


LIMIT = 1 << 28


def inflated(encoding: str, *chunks: bytes, limit: int = LIMIT) -> bytes:
    inflater = Inflater(encoding, limit=limit)
    out = b"".join(piece for chunk in chunks for piece in inflater.feed(chunk))
    inflater.finish()
    return out


def raw(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


@given(st.binary(max_size=4096), st.integers(1, 64))
def test_what_was_compressed_comes_back_however_it_was_cut(data: bytes, step: int) -> None:
    for encoding, packed in (
        ("gzip", gzip.compress(data)),
        ("x-gzip", gzip.compress(data)),
        ("deflate", zlib.compress(data)),
        ("deflate", raw(data)),
    ):
        chunks = [packed[start : start + step] for start in range(0, len(packed), step)]
        assert inflated(encoding, *chunks) == data


def test_large_bodies_come_in_bounded_pieces() -> None:
    data = os.urandom(3 << 20) + bytes(700_000)
    pieces = list(Inflater("gzip", limit=LIMIT).feed(gzip.compress(data)))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= 256 * 1024


def test_all_members_of_a_gzip_file_count_and_garbage_after_it_does_not() -> None:
    members = gzip.compress(b"one ") + gzip.compress(b"two")
    assert inflated("gzip", members) == b"one two"
    assert inflated("gzip", gzip.compress(b"one "), gzip.compress(b"two")) == b"one two"
    assert inflated("gzip", gzip.compress(b"one") + b"\0\0\0") == b"one"
    assert inflated("deflate", zlib.compress(b"one") + b"more") == b"one"
    assert inflated("gzip") == b""


def test_a_body_of_exactly_the_limit_passes_and_a_byte_more_does_not() -> None:
    packed = gzip.compress(os.urandom(1000))
    assert len(inflated("gzip", packed, limit=1000)) == 1000
    with pytest.raises(Overflow):
        inflated("gzip", packed, limit=999)


def test_a_bomb_is_stopped_by_its_ratio_long_before_its_limit() -> None:
    packed = gzip.compress(bytes(64 << 20))
    sizes: list[int] = []
    pieces = Inflater("gzip", limit=1 << 40).feed(packed)
    with pytest.raises(Overflow):
        sizes.extend(map(len, pieces))
    assert sum(sizes) <= (1 << 20) + 64 * len(packed)


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("gzip", b"abc"),
        ("gzip", gzip.compress(b"abc")[:-1]),
        ("gzip", gzip.compress(b"abc")[:-8] + bytes(8)),
        ("deflate", b"\x08\x00\xff"),
        ("deflate", b"\xff\xff\xff"),
        ("deflate", zlib.compress(b"abc")[:-1]),
        ("gzip", gzip.compress(b"abc") + gzip.compress(b"abc")[:-4]),
    ],
)
def test_a_body_that_lies_or_breaks_off_is_garbled(encoding: str, data: bytes) -> None:
    with pytest.raises(Garbled):
        inflated(encoding, data)


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "", "*"])
def test_an_encoding_that_we_do_not_read_is_garbled(encoding: str) -> None:
    with pytest.raises(Garbled):
        Inflater(encoding, limit=LIMIT)
