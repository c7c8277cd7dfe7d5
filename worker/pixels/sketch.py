"""The sketches of the built-in provider: pictures drawn from nothing but a prompt and a seed."""

from storage.facts import Limits
from worker.pixels.drawing import Drawing


def render(*, drawing: Drawing) -> bytes:
    """Draw a picture."""
    raise NotImplementedError


def edit(*blobs: bytes, masked: bool, drawing: Drawing, limits: Limits) -> bytes:
    """Draw over a picture."""
    raise NotImplementedError
