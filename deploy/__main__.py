"""`python -m deploy`: what `deploy/up` becomes once there is an environment to run in."""

import sys


# asyncio loads ssl if it can: 5 MB in a process that speaks no TLS.
sys.modules["ssl"] = None  # type: ignore[assignment]  # how Python says: not importable

from deploy.run import main  # noqa: E402 — after the line above


sys.exit(main())
