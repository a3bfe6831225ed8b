"""Pages of a list, newest first: a token says where the last one ended, and of which list it was.

Rows carry a number that only grows, so a page is "the next ones below this number": rows that come in meanwhile are on
no page twice, and none is left out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Final

from services.common.errors import InvalidSpec, Violation

DEFAULT_ROWS: Final = 50
MOST_ROWS: Final = 500
_DIGEST_CHARACTERS = 16


def rows_of(page_size: int) -> int:
    """Rows on a page: 0 means the default, more than the most means the most."""
    return min(page_size or DEFAULT_ROWS, MOST_ROWS)


def token_after(number: int, *, of: object) -> str:
    """A token for the page behind the row with this number.

    Args:
        number: of the last row that was given.
        of: the list and its filter, as a JSON value: `["jobs", tenant, state, ...]`.
    """
    return base64.urlsafe_b64encode(f"{number}.{_digest(of)}".encode()).decode()


def number_before(token: str, *, of: object) -> int | None:
    """Rows of the page have smaller numbers than this; None for the first page.

    Raises:
        InvalidSpec: the token is none of ours, or belongs to a list with another filter.
    """
    if not token:
        return None
    try:
        number, _, digest = base64.b64decode(token, altchars=b"-_", validate=True).decode("ascii").partition(".")
        if digest == _digest(of):
            return int(number)
        problem = "belongs to a list with another filter"
    except (binascii.Error, ValueError):
        problem = "is no token of this list"
    raise InvalidSpec(violations=[Violation("page_token", problem)])


def _digest(of: object) -> str:
    text = json.dumps(of, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_CHARACTERS]
