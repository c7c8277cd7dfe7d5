"""What every test may count on: its floor's mark and its floor's patience.

The floor of a test is the folder it stands in. Sockets are held to loopback by `--allow-hosts` in
pyproject.toml, for every floor.
"""

from pathlib import Path

import pytest
import structlog


FLOORS = {"integration": 120, "contract": 60, "bench": 600}  # seconds for one test
HERE = Path(__file__).parent

# A traceback drawn with all its variables takes longer than some leases in these tests.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
    ]
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        floor = item.path.relative_to(HERE).parts[0] if item.path.is_relative_to(HERE) else ""
        if floor not in FLOORS:
            continue
        item.add_marker(getattr(pytest.mark, floor))
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(FLOORS[floor]))
