"""Renditions of a 4K image: what they cost beside bare Pillow, and what the event loop feels."""

import asyncio
import time
from io import BytesIO

from PIL import Image

from storage.rendition import PRESETS
from tests import images
from tests.bench.table import Row, quantile
from worker.imaging import Imaging


TIMES = 15
SIZE = (3840, 2160)


async def run() -> list[Row]:
    """Make a thumbnail and a web picture of a large PNG, both ways in turn."""
    data = images.heavy_png(SIZE)
    imaging = Imaging(children=1)
    recipes = tuple(PRESETS.values())
    await imaging.renditions(data, recipes)  # the child has started
    lags: list[float] = []
    watching = asyncio.create_task(_watch(lags))
    ours, bare = [], []
    try:
        for _ in range(TIMES):
            started = time.perf_counter()
            await imaging.renditions(data, recipes)
            ours.append(time.perf_counter() - started)
            bare.append(await asyncio.to_thread(_bare, data))
    finally:
        watching.cancel()
        await imaging.close()
    mine, theirs, lag = quantile(ours, 0.5), quantile(bare, 0.5), quantile(lags, 0.99)
    return [
        Row(
            what=f"renditions of a {SIZE[0]}x{SIZE[1]} PNG of {len(data) / 1e6:.0f} MB, p50 ms",
            ours=f"{mine * 1e3:.0f} ({mine / theirs:.2f}x)",
            baseline=f"{theirs * 1e3:.0f} (bare Pillow)",
            bar="<= 1.5x",
            good=mine <= 1.5 * theirs,
        ),
        Row(
            what="renditions: lag of the event loop meanwhile, p99 ms",
            ours=f"{lag * 1e3:.1f}",
            bar="<= 100",
            good=lag <= 0.1,
        ),
    ]


def _bare(data: bytes) -> float:
    started = time.perf_counter()
    with Image.open(BytesIO(data)) as image:
        image.load()
        for recipe in PRESETS.values():
            width = recipe.width or image.width
            small = image.resize(
                (width, round(image.height * width / image.width)), Image.Resampling.LANCZOS
            )
            small.save(BytesIO(), "webp", quality=90, method=2)
    return time.perf_counter() - started


async def _watch(lags: list[float]) -> None:
    while True:
        before = time.perf_counter()
        await asyncio.sleep(0.005)
        lags.append(time.perf_counter() - before - 0.005)
