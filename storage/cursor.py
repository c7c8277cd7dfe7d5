"""Cursors: where the next page of a list begins, as text that a client hands back untouched."""

import base64
import binascii

from storage.errors import Invalid


def cursor_of(at: int, thing_id: str) -> str:
    """Return the cursor of the place of a thing in a list that is ordered by a number."""
    return base64.urlsafe_b64encode(f"{at}:{thing_id}".encode()).decode().rstrip("=")


def place_of(cursor: str, *, things: str) -> tuple[int, str]:
    """Return the number and the id of a place; raises `Invalid` for what no list of them gave."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        at, _, thing_id = (
            base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition(":")
        )
        return int(at), thing_id
    except (binascii.Error, ValueError) as error:
        message = f"This cursor was not given by a list of {things}."
        raise Invalid(message, param="cursor", code="invalid_cursor") from error
