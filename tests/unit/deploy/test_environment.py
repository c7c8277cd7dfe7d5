"""Claims about the environment that everything runs in."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy import environment


ROOT = Path(__file__).resolve().parents[3]


def lock_file(tmp_path: Path, text: str) -> Path:
    lock = tmp_path / "requirements.lock"
    lock.write_text(text)
    return lock


@pytest.mark.timeout(60)
def test_an_environment_is_made_once_for_one_lock_file(tmp_path: Path) -> None:
    home = tmp_path / "environment"
    lock = lock_file(tmp_path, "# nothing\n")
    python = environment.prepare(home, lock)
    said = subprocess.run(
        [python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True
    )
    assert Path(said.stdout.strip()) == home
    mark = home / "mark"
    mark.touch()
    environment.prepare(home, lock)
    assert mark.exists(), "the same lock file asks for nothing"
    lock.write_text("# something else\n")
    environment.prepare(home, lock)
    assert not mark.exists(), "another lock file starts from nothing"


@pytest.mark.timeout(60)
def test_what_has_no_hash_is_not_installed(tmp_path: Path) -> None:
    home = tmp_path / "environment"
    with pytest.raises(SystemExit, match="pip could not install"):
        environment.prepare(home, lock_file(tmp_path, "six==1.17.0\n"))
    assert not (home / environment.STAMP).exists(), "the next start tries again"


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    home = tmp_path / "environment"
    home.mkdir()
    (home / "precious").touch()
    with pytest.raises(SystemExit, match="in the way"):
        environment.prepare(home, lock_file(tmp_path, ""))
    assert (home / "precious").exists()


def test_an_old_python_is_told_so_in_one_line(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "up").read_text()
    pretend = tmp_path / "up"
    pretend.write_text(text.replace("import sys\n", "import sys\nsys.version_info = (3, 9)\n"))
    done = subprocess.run(
        [sys.executable, pretend], capture_output=True, text=True, check=False, timeout=10
    )
    assert done.returncode == 1
    assert done.stderr == "Darkroom needs Python 3.11 or newer; this is 3.9\n"


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-test.lock"])
def test_a_lock_file_pins_everything_with_hashes_and_names_no_index(name: str) -> None:
    lines = (ROOT / "deploy" / name).read_text().splitlines()
    pinned = [line for line in lines if not line.startswith(("#", " "))]
    assert pinned
    for line in pinned:
        assert "==" in line
        assert line.endswith("\\"), "hashes follow"
    assert not [line for line in lines if "://" in line or line.startswith("-")]
