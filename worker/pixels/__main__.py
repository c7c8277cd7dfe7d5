"""The life of a child: take the limits, then do call after call until the parent hangs up."""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from typing import Any, Final

from storage.facts import BadImage, Limits
from worker.pixels import codec, mask, renditions, sketch
from worker.pixels.drawing import Drawing
from worker.pixels.frame import HEAD, head, sizes


CALLS: Final[Mapping[str, Callable[..., Any]]] = {
    "decode_check": codec.decode_check,
    "convert": codec.convert,
    "normalise_input": codec.normalise_input,
    "renditions": renditions.renditions,
    "resize": codec.resize,
    "mask_to_white": mask.mask_to_white,
    "white_to_mask": mask.white_to_mask,
    "check_mask": mask.check_mask,
    "render": sketch.render,
    "edit": sketch.edit,
}


def serve(calls: Mapping[str, Callable[..., Any]]) -> None:
    """Answer on standard input, which is a socket, until it ends.

    A function is called with the blobs and the parameters sent; it returns bytes, a mapping for the
    JSON, both as (mapping, list of bytes), or None. After a fault the child ends itself: nobody
    knows what it left behind.
    """
    terms = json.loads(sys.argv[1])
    _take_limits(terms["memory"])
    with FileIO(0, "r+", closefd=False) as line:
        for request, blobs in _requests(line):
            _grant_cpu(terms["cpu"])
            meta, answer = _answer(calls[request["call"]], request["params"], blobs)
            _write(line, head(meta, answer))
            for blob in answer:
                _write(line, blob)
            if "fault" in meta:
                return


def _take_limits(memory: int) -> None:
    # Whoever stops the worker signals the whole group; a child ends when its parent hangs up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(5)  # whoever renews the leases goes first
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _grant_cpu(seconds: int) -> None:
    """Let the next call take so many seconds more than what was used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime) + seconds + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))


def _answer(
    function: Callable[..., Any], params: dict[str, Any], blobs: list[bytes]
) -> tuple[dict[str, Any], list[bytes]]:
    if "limits" in params:
        params["limits"] = Limits(**params["limits"])
    if "drawing" in params:
        params["drawing"] = Drawing(**params["drawing"])
    try:
        result = function(*blobs, **params)
    except BadImage as error:
        return {"bad": error.message, "param": error.param}, []
    except Exception as error:  # noqa: BLE001 — the parent is told and starts another child
        return {"fault": type(error).__name__}, []
    if isinstance(result, bytes):
        return {}, [result]
    if isinstance(result, tuple):
        return result
    return dict(result or {}), []


def _requests(line: FileIO) -> Iterator[tuple[dict[str, Any], list[bytes]]]:
    while start := _read(line, HEAD.size):
        (length,) = HEAD.unpack(start)
        request = json.loads(_read(line, length))
        yield request, [_read(line, size) for size in sizes(request)]


def _read(line: FileIO, size: int) -> bytes:
    """Read so many bytes, or none if the parent has hung up."""
    data = bytearray(size)
    with memoryview(data) as view:
        at = 0
        while at < size:
            got = line.readinto(view[at:])
            if not got:
                return b""
            at += got
    return bytes(data)


def _write(line: FileIO, data: bytes) -> None:
    with memoryview(data) as view:
        at = 0
        while at < len(view):
            at += line.write(view[at:])


if __name__ == "__main__":
    serve(CALLS)
