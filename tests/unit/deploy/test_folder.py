"""Claims about the data folder."""

import json
from pathlib import Path

import pytest

from deploy.folder import Folder, Held, write_private


def test_a_folder_is_held_once(tmp_path: Path) -> None:
    first = Folder(tmp_path / "data")
    with pytest.raises(Held):
        Folder(tmp_path / "data")
    first.close()
    Folder(tmp_path / "data").close()


def test_a_secret_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    secret = folder.secret()
    assert len(bytes.fromhex(secret)) == 32
    assert folder.secret() == secret
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    folder.close()


def test_two_folders_share_no_secret(tmp_path: Path) -> None:
    one, other = Folder(tmp_path / "one"), Folder(tmp_path / "other")
    assert one.secret() != other.secret()
    one.close()
    other.close()


def test_a_key_is_absent_until_it_is_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert folder.key is None
    folder.key = "dk_1"
    assert folder.key == "dk_1"
    folder.close()


def test_what_an_earlier_start_promised_is_forgotten(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.tell_ready({"url": "http://127.0.0.1:1"})
    assert json.loads((tmp_path / "ready.json").read_text()) == {"url": "http://127.0.0.1:1"}
    folder.close()
    Folder(tmp_path).close()
    assert not (tmp_path / "ready.json").exists()


def test_a_private_file_replaces_whole_and_loses_open_permissions(tmp_path: Path) -> None:
    file = tmp_path / "redis.conf"
    file.write_text("old and longer than what comes")
    file.chmod(0o644)
    write_private(file, "new")
    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["redis.conf"]
