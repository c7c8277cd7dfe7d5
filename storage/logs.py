"""Logs: one JSON object per line on standard error, the same from every process.

What may be said is decided where it is said: ids, statuses, counts and seconds. Prompts, keys,
secrets and signed queries are never handed to a logger, so there is nothing to filter here.
"""

import logging
import sys

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer


def configure(process: str, level: str) -> None:
    """Set up logging for this process; call it once, before anything is logged."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    # arq and aiohttp log through the standard library, arguments included: only their complaints
    # pass.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # Without the variables of each frame, which hold prompts, keys and bytes.
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)


def _dumps(event: object, **_: object) -> str:
    return orjson.dumps(event, default=str).decode()
