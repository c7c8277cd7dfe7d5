import pytest

from service.settings import Settings as ServiceSettings
from tests.environment import render
from worker.settings import Settings as WorkerSettings


def test_both_processes_start_with_the_whole_environment_of_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One environment serves both, so a variable of the one must not stop the other."""
    for line in render().splitlines():
        name, _, value = line.removeprefix("# ").partition("=")
        if name.startswith("DARKROOM_") and value:
            monkeypatch.setenv(name, value)
    assert ServiceSettings().limits.image_bytes == WorkerSettings().limits.image_bytes
