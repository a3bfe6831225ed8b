"""Deleting an object inside a transaction: the row that names it goes if, and only if, its bytes do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from services.common.store.objects import ObjectStore

REMOVED_WITHIN_S: Final = 60.0
"""So long a transaction waits for the store with a row in its hands."""


def remover(store: ObjectStore) -> Callable[[str], None]:
    """A function that deletes an object from the thread of a transaction, and returns when it is gone.

    Bytes that cannot be removed keep their row; and who stores the same bytes in this moment waits for the row, and
    then sees that they are gone. Ask for it on the event loop, which goes on meanwhile.
    """
    loop = asyncio.get_running_loop()

    def remove(key: str) -> None:
        asyncio.run_coroutine_threadsafe(store.delete(key), loop).result(REMOVED_WITHIN_S)

    return remove
