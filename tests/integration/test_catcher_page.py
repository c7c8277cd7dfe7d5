"""The page of the webhook catcher as a browser shows it, where there is a Chromium."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from deploy.catcher.app import make_app
from deploy.catcher.keyholder import Keyholder
from tests.desk import API_KEY, Client, Darkroom, Desk, a_key
from tests.doubles import Clock


HOSTILE = b"<script>document.title='owned'</script></pre><img src=x onerror=alert(1)>"
NAMES = ("chromium", "chromium-browser", "google-chrome")

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
async def desk(
    aiohttp_client: Callable[..., Awaitable[Client]],
    aiohttp_server: Callable[..., Awaitable[TestServer]],
) -> AsyncIterator[Desk]:
    """A catcher that is sent more as soon as a browser has looked at it."""
    darkroom, clock = Darkroom(), Clock(0.0)
    url = str((await aiohttp_server(darkroom.app())).make_url("/")).rstrip("/")
    app = make_app(url, Keyholder(url, API_KEY, clock=clock))
    sending: list[asyncio.Task[None]] = []

    async def send_more() -> None:
        assert await sitting.post(message_id="msg_2") == 204
        assert await sitting.post(a_key()[1], message_id="<b>msg_3</b>", sent=HOSTILE) == 401

    async def prepared(request: web.Request, response: web.StreamResponse) -> None:
        if request.path == "/messages" and not sending:
            sending.append(asyncio.create_task(send_more()))

    app.on_response_prepare.append(prepared)
    sitting = Desk(darkroom, await aiohttp_client(app), clock)
    yield sitting
    await asyncio.gather(*sending)


async def shown(url: str, profile: Path) -> str:
    """Return the page as it stands after twenty seconds of a browser's own time."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        pytest.skip("no Chromium here")
    flags = ["--headless", "--disable-gpu", f"--user-data-dir={profile}"]
    if os.geteuid() == 0:
        flags.append("--no-sandbox")  # it refuses to run as root with one
    process = await asyncio.create_subprocess_exec(
        *(browser, *flags, "--virtual-time-budget=20000", "--dump-dom", url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return out.decode()


async def test_what_arrives_is_put_on_the_page_as_text_while_it_is_open(
    desk: Desk, tmp_path: Path
) -> None:
    assert await desk.post(message_id="msg_1") == 204
    page = await shown(str(desk.client.make_url("/")), tmp_path / "profile")
    assert ">3 arrived</p>" in page
    items = page.split("<li class=")[1:4]
    assert [item.split('"')[1] for item in items] == ["refused", "verified", "verified"]
    refused, latest, first = items
    assert "msg_1" in first
    assert "msg_2" in latest
    assert '<span class="type">job.succeeded</span>' in latest
    assert '<code class="about">job_1</code>' in latest
    assert "No signature matches what came." in refused
    assert "&lt;script&gt;document.title='owned'&lt;/script&gt;" in refused
    assert "&lt;b&gt;msg_3&lt;/b&gt;" in refused
    assert "<img" not in page
    assert "<title>Webhook catcher</title>" in page
    assert f'"webhook_url":"{desk.client.make_url("/hook")}"' in page
    assert desk.darkroom.own[1].text not in page
