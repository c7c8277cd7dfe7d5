"""The URL of a webhook receiver, as tenants write it: checked before it is kept."""

import re
from typing import Final

from storage.address import Allowance, check_url
from storage.errors import Invalid


_KEY: Final = re.compile(r"dk_(?:live|test)_[0-9a-z]{12}_", re.IGNORECASE)


def receiver_url(text: str, *, param: str, allowance: Allowance) -> str:
    """Return the URL as it is kept; raises `Invalid` for one that may not be called.

    The address behind its name is judged at each delivery, when it is known.
    """
    if _KEY.search(text):  # receivers log what they are called by
        raise Invalid("The URL must not hold an API key.", param=param, code="invalid_url")
    return str(check_url(text, param=param, allow_http=False, allowance=allowance))
