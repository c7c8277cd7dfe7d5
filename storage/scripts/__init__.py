"""The Lua scripts: each is one step that happens wholly or not at all.

They are sent as text each time, so what is said to their readers is left at home.
"""

from pathlib import Path
from typing import Final


def _read(name: str) -> str:
    text = (Path(__file__).parent / f"{name}.lua").read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--"))


# Whatever gives a job its place in the queue shares a beginning.
_ORDER: Final = _read("order") + "\n"
_SEATS: Final = _ORDER + _read("seats") + "\n"
ADD: Final = _ORDER + _read("add")
SWAP: Final = _SEATS + _read("swap")
SEAT: Final = _SEATS + _read("seat")

CLAIM: Final = _read("claim")
RENEW: Final = _read("renew")
RELEASE: Final = _read("release")
GCRA: Final = _read("gcra")
TENANT: Final = _read("tenant")
KEY: Final = _read("key")
BATCH: Final = _read("batch")

# The scripts that queue deliveries share how few of one receiver are under way at one time.
_LANES: Final = _read("lanes") + "\n"
BEGIN: Final = _LANES + _read("begin")
WRITE: Final = _LANES + _read("write")
AGAIN: Final = _LANES + _read("again")
MEND: Final = _LANES + _read("mend")
LOG: Final = _read("log")
REPLAY: Final = _read("replay")

# The scripts that make a change owe the deliveries that tell of it.
_OWED: Final = _LANES + _read("owe") + "\n"
ADD_AND_OWE: Final = _OWED + ADD
BATCH_AND_OWE: Final = _OWED + BATCH
SWAP_AND_OWE: Final = _OWED + SWAP
ENDPOINT: Final = _OWED + _read("endpoint")
OWE: Final = _OWED + "owe(nil, 1, 1)\nreturn 1\n"

# The scripts of the gates share their beginning.
_GATE: Final = _read("gate") + "\n"
PERMIT: Final = _GATE + _read("permit")
REPORT: Final = _GATE + _read("report")
TEND: Final = _GATE + _read("tend")
PARK: Final = _GATE + _read("park")
AHEAD: Final = _GATE + _read("ahead")
LEARN: Final = _GATE + _read("learn")
