"""Claims about the whole of one machine as `deploy/up` starts it, with nothing standing in."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from deploy.wishes import ROOT


MEGABYTE = 1_048_576


class Up:
    """One running installation, with what it said and what it promises."""

    def __init__(self, data: Path, **environment: str) -> None:
        self.data = data
        (data / "ready.json").unlink(missing_ok=True)  # a killed supervisor leaves it behind
        clean = {k: v for k, v in os.environ.items() if not k.startswith("DARKROOM_")}
        self.errors = (data.parent / "stderr").open("a+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "deploy"],
            cwd=ROOT,
            env=clean | {"DARKROOM_DATA": str(data), "DARKROOM_PORT": "0"} | environment,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        self.ready = wait_for(lambda: json.loads((data / "ready.json").read_text()))

    def tree(self) -> list[psutil.Process]:
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def curl(self, to_show: str = "Make a picture") -> list[str]:
        """Return the words of the command that it prints to show something."""
        assert self.process.stdout is not None
        said = (line.strip() for line in self.process.stdout)
        next(line for line in said if line.startswith(to_show))
        return shlex.split(next(said))

    def follow(self, words: list[str]) -> tuple[int, Any]:
        """Send what a curl command would."""
        given = {flag: word for flag, word in pairwise(words) if flag == "-d"}
        headers = dict(word.split(": ", 1) for flag, word in pairwise(words) if flag == "-H")
        assert words[2] == self.ready["url"] + "/v1/jobs"
        return self.ask("POST", "/v1/jobs", json.loads(given["-d"]), **headers)

    def ask(
        self, method: str, path: str, body: Any = None, *, at: str = "", **headers: str
    ) -> tuple[int, Any]:
        connection = HTTPConnection(urlsplit(at or self.ready["url"]).netloc, timeout=40)
        try:
            connection.request(
                method,
                path,
                body and json.dumps(body),
                {
                    "Authorization": f"Bearer {self.ready['key']}",
                    "Content-Type": "application/json",
                }
                | headers,
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


def wait_for(answer: Callable[[], Any], within: float = 60) -> Any:
    """Return what `answer` returns once it is true; not being there yet is waited out."""
    end = time.monotonic() + within
    while True:
        try:
            if got := answer():
                return got
        except (OSError, ValueError):
            pass
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[[], Up]]:
    started: list[Up] = []

    def start(**environment: str) -> Up:
        started.append(Up(tmp_path / "data", **environment))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate(timeout=10)
        one.errors.close()


def test_the_curl_that_it_prints_makes_a_picture(up: Callable[[], Up]) -> None:
    running = up()
    status, job = running.follow(running.curl())
    assert (status, job["status"]) == (200, "succeeded")
    assert job["images"][0]["bytes"] > 1000


def test_the_catcher_shows_what_the_curl_that_it_prints_brings(up: Callable[..., Up]) -> None:
    running = up(DARKROOM_CATCHER="1")
    status, job = running.follow(running.curl("See webhooks arrive"))
    assert status == 202

    def told() -> Any:
        _, shown = running.ask("GET", "/messages", at=running.ready["catcher_url"])
        return len(shown["messages"]) == 4 and shown["messages"]

    messages = wait_for(told, within=30)
    assert [one["type"] for one in messages] == [
        *("job.queued", "job.started", "job.image_ready", "job.succeeded")
    ]
    assert {(one["status"], one["about"], one["answered"]) for one in messages} == {
        ("verified", job["id"], 204)
    }
    assert {one["signatures"]["v1"] for one in messages} == {"matches"}
    assert {one["signatures"]["v1a"] for one in messages} == {"matches"}


def test_an_idle_machine_holds_less_than_200_megabytes(up: Callable[[], Up]) -> None:
    running = up()
    held = {p.pid: p.memory_info().rss for p in running.tree()}
    assert len(held) >= 4
    assert sum(held.values()) < 200 * MEGABYTE


def test_a_job_outlives_a_kill_of_everything(up: Callable[[], Up]) -> None:
    first = up()
    status, job = first.ask(
        "POST",
        "/v1/jobs",
        {"model": "sketch", "prompt": "what remains", "n": 2},
        Prefer="respond-async",
    )
    assert status == 202
    children = [p for p in first.tree() if p.pid != first.process.pid]
    first.process.send_signal(signal.SIGKILL)
    first.process.communicate(timeout=10)
    assert psutil.wait_procs(children, timeout=5)[1] == []
    second = up()
    assert second.ready["key"] == first.ready["key"]
    _, ended = second.ask("GET", f"/v1/jobs/{job['id']}?wait=30")
    assert ended["status"] == "succeeded"
    assert len(ended["images"]) == 2


def test_a_killed_worker_is_replaced_and_the_next_job_runs(up: Callable[[], Up]) -> None:
    running = up()
    [worker] = running.ready["worker_pids"]
    os.kill(worker, signal.SIGKILL)
    status, job = running.ask(
        "POST", "/v1/jobs", {"model": "sketch", "prompt": "after a kill"}, Prefer="wait=30"
    )
    assert (status, job["status"]) == (200, "succeeded")
    [other] = json.loads((running.data / "ready.json").read_text())["worker_pids"]
    assert other != worker
