"""A mask whose left half may change, and the proof that an upstream was told so."""

import base64
import io
from collections.abc import AsyncIterator

import pytest
from PIL import Image

from storage.address import Allowance
from worker.imaging import Imaging
from worker.provider import Source, Tools
from worker.web import Web


SIDE = 64


def half_mask() -> Source:
    """Return a mask whose alpha is 0 on the left, as OpenAI wants it."""
    image = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, SIDE // 2, SIDE))
    out = io.BytesIO()
    image.save(out, "PNG")
    return Source(
        data=out.getvalue(),
        content_type="image/png",
        filename="mask.png",
        width=SIDE,
        height=SIDE,
    )


def is_white_on_the_left(sent: str | bytes) -> bool:
    """Say whether a mask, in base64, as a data URL or as bytes, is white where alpha was 0."""
    data = base64.b64decode(sent.rpartition(",")[2]) if isinstance(sent, str) else sent
    image = Image.open(io.BytesIO(data)).convert("L")
    left, right = image.getpixel((4, SIDE // 2)), image.getpixel((SIDE - 4, SIDE // 2))
    return (image.size, left, right) == ((SIDE, SIDE), 255, 0)


class WithPixels:
    """Gives a suite a door to the pixels."""

    @pytest.fixture
    async def tools(self) -> AsyncIterator[Tools]:
        imaging = Imaging(children=1)
        async with Web(allowance=Allowance.parse("127.0.0.0/8")) as web:
            yield Tools(web=web, imaging=imaging)
        await imaging.close()
