import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import psutil
import pytest
import uvloop

from storage.container import inspect
from storage.facts import BadImage, Limits
from tests import images
from worker.child import Terms
from worker.imaging import Drawing, Fault, Imaging, ImagingFailed


MORTAL = "tests.unit.worker.mortal"


@pytest.fixture
async def imaging() -> AsyncIterator[Imaging]:
    """One child at a time, which can be told to die."""
    door = Imaging(children=1, terms=Terms(program=MORTAL))
    yield door
    await door.close()


async def tell(imaging: Imaging) -> dict[str, Any]:
    meta, _ = await imaging._ask("tell", [])
    return meta


async def fault(imaging: Imaging, call: str, **params: Any) -> ImagingFailed:
    """Return how `call` failed."""
    with pytest.raises(ImagingFailed) as caught:
        await imaging._ask(call, [], **params)
    return caught.value


def children() -> list[psutil.Process]:
    """Return the children that work on images; servers of other tests may be children, too."""
    programs = {MORTAL, Terms().program}
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it is ending
            found += [child] if programs & set(child.cmdline()) else []
    return found


async def settled(count: int) -> None:
    """Wait until this process has so many children."""
    async with asyncio.timeout(5):
        while len(children()) != count:
            await asyncio.sleep(0.01)


async def test_every_call_reaches_the_pixels(imaging: Imaging) -> None:
    photograph, mask = images.photograph(), images.mask((512, 600), (100, 100, 200, 200))

    seen = await imaging.decode_check(photograph)
    assert (seen.width, seen.height, seen.transparent) == (512, 600, False)
    assert inspect(await imaging.convert(photograph, format="webp")).format == "webp"
    assert inspect(await imaging.normalise_input(photograph)).format == "png"
    assert inspect(await imaging.resize(photograph, width=64, format="jpeg")).width == 64
    white = await imaging.mask_to_white(mask)
    assert inspect(white).channels == 1
    assert inspect(await imaging.white_to_mask(white)).alpha
    await imaging.check_mask(mask, 512, 600)
    drawing = Drawing(prompt="a boat", seed=1, width=64, height=64)
    assert inspect(await imaging.render(drawing)).width == 64
    assert inspect(await imaging.edit(drawing, [photograph], mask=None)).width == 64
    assert len(children()) == 1


async def test_a_bad_image_is_told_in_plain_words_and_the_child_lives(imaging: Imaging) -> None:
    pid = (await tell(imaging))["pid"]
    for data in (*images.ruins().values(), *images.strangers().values()):
        with pytest.raises(BadImage):
            await imaging.decode_check(data)
    with pytest.raises(BadImage, match="no alpha") as caught:
        await imaging.check_mask(images.photograph(), 512, 600)

    assert caught.value.param == "mask"
    assert (await tell(imaging))["pid"] == pid


async def test_too_many_bytes_are_the_fault_of_the_image() -> None:
    imaging = Imaging(children=1, limits=Limits(bytes=100))
    with pytest.raises(BadImage, match="bytes"):
        await imaging.decode_check(images.picture())
    await imaging.close()


@pytest.mark.parametrize(
    ("call", "params", "reason", "detail"),
    [
        ("kill_itself", {"number": signal.SIGKILL}, Fault.CRASH, "-9"),
        ("kill_itself", {"number": signal.SIGXCPU}, Fault.TIMEOUT, "cpu"),
        ("crash", {}, Fault.CRASH, "-11"),
        ("leave", {}, Fault.CRASH, "3"),
        ("hog", {}, Fault.MEMORY, "MemoryError"),
        ("raise_it", {}, Fault.CRASH, "RuntimeError"),
        ("flood", {}, Fault.CRASH, "answer"),
    ],
)
async def test_a_child_that_dies_is_reported_and_replaced(
    imaging: Imaging, call: str, params: dict[str, Any], reason: Fault, detail: str
) -> None:
    pid = (await tell(imaging))["pid"]

    failure = await fault(imaging, call, **params)

    assert (failure.reason, failure.detail) == (reason, detail)
    assert "caller must not" not in str(failure)
    assert (await tell(imaging))["pid"] != pid
    assert (await imaging.decode_check(images.picture())).width == 64
    await settled(1)


async def test_a_child_killed_while_it_rests_is_replaced(imaging: Imaging) -> None:
    pid = (await tell(imaging))["pid"]
    os.kill(pid, signal.SIGKILL)
    await settled(0)

    assert (await tell(imaging))["pid"] != pid


async def test_a_child_that_says_more_than_was_asked_is_replaced(imaging: Imaging) -> None:
    pid = (await tell(imaging))["pid"]
    assert (await imaging._ask("babble", []))[1] == [b"asked"]
    await asyncio.sleep(0.05)

    assert (await tell(imaging))["pid"] != pid


async def test_a_child_that_sleeps_is_killed_at_the_wall() -> None:
    imaging = Imaging(children=1, terms=Terms(program=MORTAL, wall=0.7))
    pid = (await tell(imaging))["pid"]
    began = time.monotonic()

    failure = await fault(imaging, "sleep", seconds=60)

    assert (failure.reason, failure.detail) == (Fault.TIMEOUT, "wall")
    assert time.monotonic() - began < 2
    await settled(0)
    assert not psutil.pid_exists(pid)
    await imaging.close()


async def test_a_child_that_spins_runs_out_of_cpu_time() -> None:
    imaging = Imaging(children=1, terms=Terms(program=MORTAL, cpu=0))

    failure = await fault(imaging, "spin")

    assert (failure.reason, failure.detail) == (Fault.TIMEOUT, "cpu")
    await imaging.close()


async def test_cpu_time_is_granted_for_each_call_anew() -> None:
    imaging = Imaging(children=1, terms=Terms(program=MORTAL, cpu=1))
    drawing = Drawing(prompt="x", seed=1, width=2048, height=2048)
    pid = (await tell(imaging))["pid"]
    async with asyncio.timeout(15):
        while sum(psutil.Process(pid).cpu_times()[:2]) < 2.5:
            await imaging.render(drawing)

    assert (await tell(imaging))["pid"] == pid
    await imaging.close()


async def test_a_cancelled_call_is_killed(imaging: Imaging) -> None:
    pid = (await tell(imaging))["pid"]
    call = asyncio.create_task(imaging._ask("sleep", [], seconds=60))
    await asyncio.sleep(0.1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    await settled(0)
    assert (await tell(imaging))["pid"] != pid


async def test_cancelling_at_any_moment_leaves_no_slot_taken() -> None:
    imaging = Imaging(children=1, terms=Terms(program=MORTAL))
    for delay in (0, 0.001, 0.01, 0.05, 0.1, 0.2):
        call = asyncio.create_task(imaging._ask("echo", [bytes(5_000_000)]))
        await asyncio.sleep(delay)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

    assert (await imaging._ask("echo", [b"x"]))[1] == [b"x"]
    await imaging.close()
    assert children() == []


async def test_children_are_no_more_than_allowed_and_share_the_work() -> None:
    imaging = Imaging(children=2, terms=Terms(program=MORTAL))
    await asyncio.gather(*(imaging._ask("sleep", [], seconds=0.05) for _ in range(8)))

    assert len(children()) == 2
    await imaging.close()
    assert children() == []


async def test_no_child_is_started_before_there_is_work() -> None:
    imaging = Imaging()

    assert children() == []
    await imaging.close()


async def test_a_child_without_work_ends() -> None:
    imaging = Imaging(children=1, idle=0.2, terms=Terms(program=MORTAL))
    await tell(imaging)
    assert len(children()) == 1

    await settled(0)
    assert (await tell(imaging))["pid"]
    await imaging.close()


async def test_a_full_queue_says_so_at_once() -> None:
    imaging = Imaging(children=1, waiting=1, terms=Terms(program=MORTAL))
    working = asyncio.create_task(imaging._ask("sleep", [], seconds=0.5))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(imaging._ask("echo", [b"x"]))
    await asyncio.sleep(0)

    assert (await fault(imaging, "tell")).reason is Fault.BUSY
    await working
    assert (await waiting)[1] == [b"x"]
    await imaging.close()


async def test_waiting_has_an_end() -> None:
    imaging = Imaging(children=1, patience=0.2, terms=Terms(program=MORTAL))
    working = asyncio.create_task(imaging._ask("sleep", [], seconds=0.5))
    await asyncio.sleep(0)

    assert (await fault(imaging, "tell")).reason is Fault.BUSY
    await working
    await imaging.close()


async def test_closing_ends_the_work_and_refuses_more() -> None:
    imaging = Imaging(children=2, terms=Terms(program=MORTAL))
    await tell(imaging)
    working = asyncio.create_task(fault(imaging, "sleep", seconds=60))
    waiting = [asyncio.create_task(fault(imaging, "sleep", seconds=60)) for _ in range(3)]
    await asyncio.sleep(0.3)
    await imaging.close()

    for call in (working, *waiting):
        assert (await asyncio.wait_for(call, 2)).reason in {Fault.CRASH, Fault.CLOSED}
    assert (await fault(imaging, "tell")).reason is Fault.CLOSED
    await settled(0)


async def test_a_child_knows_no_secret_and_imports_no_more_than_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    imaging = Imaging(children=1, terms=Terms(program=MORTAL))
    told = await tell(imaging)
    await imaging.close()

    assert "OPENAI_API_KEY" not in told["environment"]
    assert told["sigterm_ignored"]
    assert told["memory"] == 1 << 30
    assert set(told["files"]) <= {"0", "1", "2", "3", "4"}
    others = {"storage", "worker", "storage.container", "storage.facts", "storage.errors"}
    for name in told["modules"]:
        assert name in others or name.startswith(("storage.containers", "worker.pixels")), name


async def test_a_child_is_small(imaging: Imaging) -> None:
    await imaging.decode_check(images.photograph())
    (child,) = children()

    assert child.memory_info().rss < 60 << 20


async def test_fifty_bombs_leave_the_parent_as_it_was(imaging: Imaging) -> None:
    bombs = list(images.bombs().values())
    await imaging.decode_check(images.picture())
    me = psutil.Process()
    pid, before, peak = (await tell(imaging))["pid"], me.memory_info().rss, 0
    for turn in range(50):
        with pytest.raises(BadImage):
            await imaging.decode_check(bombs[turn % len(bombs)])
        peak = max(peak, me.memory_info().rss)

    assert peak - before < 64 << 20
    assert (await tell(imaging))["pid"] == pid
    assert children()[0].memory_info().rss < 80 << 20


async def test_the_largest_images_fit_into_the_memory_of_a_child(imaging: Imaging) -> None:
    for data in (images.webp_bomb(5000, 5000), images.large_png(5000), images.large_jpeg(5000)):
        assert (await imaging.decode_check(data)).width == 5000
        assert inspect(await imaging.convert(data, format="jpeg")).width == 5000


async def test_the_event_loop_stays_free_while_images_are_worked_on() -> None:
    imaging = Imaging(children=2)
    data = images.heavy_png()
    await asyncio.gather(imaging.decode_check(data), imaging.decode_check(data))
    began = time.thread_time()
    await asyncio.gather(*(imaging.convert(data, format="webp") for _ in range(12)))
    spent = time.thread_time() - began
    await imaging.close()

    # What the loop does itself is to pass bytes on; each picture takes a child a tenth of a second.
    assert spent < 0.12


async def test_bytes_come_back_as_they_went(imaging: Imaging) -> None:
    for size in (0, 1, 65_536, 3_000_000):
        data = os.urandom(size)
        assert (await imaging._ask("echo", [data]))[1] == [data]


def test_it_works_the_same_on_uvloop() -> None:
    async def scenario() -> None:
        imaging = Imaging(children=1, terms=Terms(program=MORTAL, wall=1))
        assert (await fault(imaging, "kill_itself", number=signal.SIGKILL)).detail == "-9"
        assert (await fault(imaging, "sleep", seconds=60)).detail == "wall"
        assert (await imaging._ask("echo", [bytes(3_000_000)]))[1] == [bytes(3_000_000)]
        os.kill((await tell(imaging))["pid"], signal.SIGKILL)
        await settled(0)
        call = asyncio.create_task(imaging._ask("sleep", [], seconds=60))
        await asyncio.sleep(0.2)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert (await imaging.decode_check(images.photograph())).width == 512
        await imaging.close()
        await settled(0)

    uvloop.run(scenario())
