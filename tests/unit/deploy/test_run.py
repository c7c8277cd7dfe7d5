"""Claims about a whole installation, with stand-ins for the service and the worker."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import psutil
import pytest
from redis import Redis
from redis.exceptions import RedisError

from deploy import probe
from deploy.run import OF_A_CATCHER
from deploy.wishes import ROOT, Unable, Wishes
from tests.unit.deploy.standin import write_standins


pytestmark = pytest.mark.timeout(60)

Start: TypeAlias = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_standins(tmp_path)
    return tmp_path


def _heed_the_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may themselves be meant to outlive it


@pytest.fixture
def start(place: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(*before: str, **environment: str) -> "subprocess.Popen[str]":
        clean = {k: v for k, v in os.environ.items() if not k.startswith("DARKROOM_")}
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "deploy"],
            cwd=place,
            env=clean
            | {
                "PYTHONPATH": str(ROOT),
                "DARKROOM_DATA": str(place / "data"),
                "DARKROOM_PORT": "0",
            }
            | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_heed_the_terminal,  # noqa: PLW1509 — the tests have no threads
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=10)


def facts(place: Path) -> dict[str, Any]:
    ready: dict[str, Any] = wait_for(lambda: json.loads((place / "data/ready.json").read_text()))
    return ready


def wait_for(answer: Callable[[], Any], within: float = 20) -> Any:
    """Return what `answer` returns once it is true; not being there yet is waited out."""
    end = time.monotonic() + within
    while True:
        got = None
        with suppress(OSError, ValueError, HTTPException, RedisError):
            got = answer()
        if got:
            return got
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Tell whether no program runs under `pid`; one that nobody has buried counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def get(url: str, path: str) -> str:
    connection = HTTPConnection(urlsplit(url).netloc, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def redis_pid(place: Path) -> int:
    with Redis.from_url(facts(place)["redis_url"]) as redis:
        pid: int = redis.info("server")["process_id"]
        return pid


def environment_of_the_service(place: Path) -> dict[str, str]:
    lines = get(facts(place)["url"], "/environment").splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_a_start_tells_where_it_is_and_a_sigterm_ends_it_in_order(
    place: Path, start: Start
) -> None:
    process = start()
    ready = facts(place)
    assert set(ready) == {"url", "key", "service_pids", "worker_pids", "redis_url"}
    assert len(ready["service_pids"]) == len(ready["worker_pids"]) == 1
    redis = redis_pid(place)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert ready["url"] in out
    assert ready["key"] in out
    assert "curl" in out
    assert "service says this" in err, "what children print goes to standard error"
    endings = [err.index("service ended"), err.index("worker ended"), err.index("bye bye")]
    assert endings == sorted(endings), "the service first, Redis last"
    assert not (place / "data" / "ready.json").exists()
    assert all(gone(pid) for pid in (redis, *ready["service_pids"], *ready["worker_pids"]))


def test_a_ctrl_c_is_an_orderly_stop(place: Path, start: Start) -> None:
    process = start()
    facts(place)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "worker ended" in err


def test_the_end_of_the_terminal_is_a_stop_unless_it_was_started_to_outlive_it(
    place: Path, start: Start
) -> None:
    process = start("nohup")
    facts(place)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.terminate()
    assert process.wait(timeout=20) == 0
    process = start()
    facts(place)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=20) == 0


@pytest.mark.parametrize(("workers", "grace"), [("1", "0"), ("2", None)])
def test_a_worker_waits_for_others_where_there_are_any(
    place: Path, start: Start, workers: str, grace: str | None
) -> None:
    start(DARKROOM_WORKERS=workers)
    assert environment_of_the_service(place).get("DARKROOM_WORKER__GRACE") == grace


def test_a_second_start_finds_the_same_key_and_secret(place: Path, start: Start) -> None:
    seen = []
    for _ in range(2):
        process = start()
        seen.append((facts(place)["key"], environment_of_the_service(place)["DARKROOM_SECRET"]))
        process.terminate()
        process.communicate(timeout=20)
    assert seen[0] == seen[1]
    assert len(seen[0][1]) == 64
    for name in ("key", "secret"):
        assert (place / "data" / name).stat().st_mode & 0o777 == 0o600


def test_two_at_once_in_one_folder_are_refused_in_one_line(place: Path, start: Start) -> None:
    start()
    first = facts(place)
    second = start()
    out, err = second.communicate(timeout=20)
    assert second.returncode == 1
    assert out == ""
    assert err.count("\n") == 1
    assert facts(place) == first, "the first one is not disturbed"


def test_what_dies_comes_back_and_ready_json_says_so(place: Path, start: Start) -> None:
    start(DARKROOM_WORKERS="2")
    before = facts(place)
    assert len(before["worker_pids"]) == 2
    os.kill(before["worker_pids"][0], signal.SIGKILL)
    os.kill(before["service_pids"][0], signal.SIGKILL)

    def renewed() -> dict[str, Any] | None:
        now = facts(place)
        whole = len(now["worker_pids"]) == 2 and len(now["service_pids"]) == 1
        dead = {before["worker_pids"][0], before["service_pids"][0]}
        return now if whole and not dead & {*now["worker_pids"], *now["service_pids"]} else None

    after = wait_for(renewed)
    assert before["worker_pids"][1] in after["worker_pids"], "who lives is left alone"
    assert after["url"] == before["url"]
    assert wait_for(lambda: get(after["url"], "/readyz")) == "ok"


def test_a_killed_redis_comes_back_where_it_was_with_what_it_had(place: Path, start: Start) -> None:
    start()
    with Redis.from_url(facts(place)["redis_url"], decode_responses=True) as redis:
        assert redis.set("kept", "yes")
        first = redis_pid(place)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: gone(first))
        assert wait_for(lambda: redis.get("kept")) == "yes"
        for setting, value in {
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            "bind": "127.0.0.1",
        }.items():
            assert redis.config_get(setting) == {setting: value}


def test_nothing_outlives_a_killed_supervisor(place: Path, start: Start) -> None:
    process = start()
    ready = facts(place)
    pids = [redis_pid(place), *ready["service_pids"], *ready["worker_pids"]]
    process.kill()
    wait_for(lambda: all(gone(pid) for pid in pids), within=5)


@pytest.mark.parametrize("who", ["STANDIN_SERVICE", "STANDIN_WORKER"])
def test_a_child_that_refuses_its_configuration_stops_everything_with_its_code(
    place: Path, start: Start, who: str
) -> None:
    process = start(**{who: "refuse"})
    _, err = process.communicate(timeout=20)
    assert process.returncode == 78
    assert "refuses to start" in err
    if who == "STANDIN_WORKER":
        assert "the catalog names an unknown provider" in err
    assert not (place / "data" / "ready.json").exists()


def test_a_taken_port_is_said_in_one_line(start: Start) -> None:
    with probe._bound("127.0.0.1", 0) as taken:
        taken.listen()
        port = str(taken.getsockname()[1])
        process = start(DARKROOM_PORT=port, DARKROOM_ALLOW_NETWORKS="")
        _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err == f"darkroom: Port {port} is taken; set DARKROOM_PORT (0 takes any free one)\n"


@pytest.mark.parametrize(
    "name", ["DARKROOM_PORT", "DARKROOM_WORKERS", "DARKROOM_CATCHER", "DARKROOM_WORKER__DRAIN"]
)
@pytest.mark.parametrize("value", ["many", "-1", "1.5", "999999", "٣"])
def test_a_number_that_is_none_is_refused(name: str, value: str) -> None:
    with pytest.raises(Unable, match=name):
        Wishes.read({name: value})


@pytest.mark.parametrize(
    ("environment", "port"),
    [
        ({}, None),
        ({"DARKROOM_CATCHER": "0", "DARKROOM_CATCHER_PORT": "7"}, None),
        ({"DARKROOM_CATCHER": ""}, None),
        ({"DARKROOM_CATCHER": "1"}, 8401),
        ({"DARKROOM_CATCHER": "1", "DARKROOM_PORT": "0"}, 0),
        ({"DARKROOM_CATCHER": "1", "DARKROOM_CATCHER_PORT": "7"}, 7),
        ({"DARKROOM_CATCHER": "1", "DARKROOM_ALLOW_NETWORKS": "10.0.0.0/8, 127.0.0.0/8"}, 8401),
        ({"DARKROOM_CATCHER": "1", "DARKROOM_ALLOW_NETWORKS": "nonsense"}, 8401),
    ],
)
def test_a_catcher_is_there_for_who_asks(environment: dict[str, str], port: int | None) -> None:
    assert Wishes.read(environment).catcher == port


@pytest.mark.parametrize("networks", ["", "10.0.0.0/8", "::1/128"])
def test_a_catcher_that_nothing_could_reach_is_refused(networks: str) -> None:
    with pytest.raises(Unable, match="no webhook would arrive"):
        Wishes.read({"DARKROOM_CATCHER": "1", "DARKROOM_ALLOW_NETWORKS": networks})


def test_a_catcher_is_told_the_key_and_no_other_secret(place: Path, start: Start) -> None:
    process = start(DARKROOM_CATCHER="1", OPENAI_API_KEY="sk-theirs", LANG="C.UTF-8")
    ready = facts(place)
    assert ready["catcher_url"].startswith("http://127.0.0.1:")
    assert "<h1>Webhook catcher</h1>" in get(ready["catcher_url"], "/")
    (catcher,) = filter(is_catcher, psutil.Process(process.pid).children())
    assert set(catcher.environ()) <= {"DARKROOM_KEY", "LC_CTYPE", *OF_A_CATCHER}
    process.terminate()
    out, _ = process.communicate(timeout=20)
    assert f"See webhooks arrive at {ready['catcher_url']}\n" in out
    assert f'"webhook_url": "{ready["catcher_url"]}/hook"' in out
    assert gone(catcher.pid)


def is_catcher(process: psutil.Process) -> bool:
    return "deploy.catcher" in process.cmdline()


def test_a_taken_port_of_the_catcher_is_said(start: Start) -> None:
    with probe._bound("127.0.0.1", 0) as taken:
        taken.listen()
        port = str(taken.getsockname()[1])
        process = start(DARKROOM_CATCHER="1", DARKROOM_CATCHER_PORT=port)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"Port {port} is taken; set DARKROOM_CATCHER_PORT (0 takes any free one)" in err


def test_children_get_what_the_user_set_and_what_was_missing(place: Path, start: Start) -> None:
    process = start(DARKROOM_PUBLIC_URL="https://pictures.example", OPENAI_API_KEY="sk-theirs")
    got = environment_of_the_service(place)
    assert got["DARKROOM_PUBLIC_URL"] == "https://pictures.example"
    assert got["OPENAI_API_KEY"] == "sk-theirs"
    assert got["DARKROOM_OBJECTS__KIND"] == "local"
    assert got["DARKROOM_OBJECTS__PATH"] == str(place / "data" / "objects")
    assert got["DARKROOM_CATALOG"] == str(ROOT / "deploy" / "darkroom.toml")
    assert got["DARKROOM_ALLOW_NETWORKS"] == "127.0.0.0/8,::1/128"
    assert got["DARKROOM_PORT"] == facts(place)["url"].rpartition(":")[2]
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert sum("DARKROOM_ALLOW_NETWORKS" in line for line in err.splitlines()) == 1


def test_a_redis_of_the_users_own_is_used_and_left_running(place: Path, start: Start) -> None:
    start(DARKROOM_REDIS__URL="redis://127.0.0.1:1/0")
    assert facts(place)["redis_url"] == "redis://127.0.0.1:1/0"
    assert not (place / "data" / "redis").exists()


def test_a_key_that_redis_does_not_know_is_made_anew(place: Path, start: Start) -> None:
    data = place / "data"
    data.mkdir()
    (data / "key").write_text("dk_of_another_redis\n")
    start(STANDIN_SERVICE="unknown-key")
    assert facts(place)["key"] not in ("dk_of_another_redis", None)
