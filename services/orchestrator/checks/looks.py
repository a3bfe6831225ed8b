"""What an asset is, as ingest sees it. A look costs a child process, so it is remembered."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.common.error_table import Exit
from services.common.errors import MasqueradeError, from_reason
from services.common.store.objects import ObjectStore
from services.orchestrator.keys import job_prefix
from services.orchestrator.offers import Ask

log = logging.getLogger(__name__)

MOST_REMEMBERED: Final = 2000
LOOK_S: Final = 20.0
"""A look that takes longer is left to the job: it finds the same out, and says so."""

PICTURES: Final = frozenset({"PNG picture", "JPEG picture", "WebP picture"})
"""As `services.common.media.signatures` names what their bytes begin as."""


@dataclass(frozen=True, slots=True)
class Look:
    """What an asset is."""

    is_video: bool = False
    is_picture: bool = False
    duration_ms: float = 0.0
    """Of a video: as it says itself, or counted."""

    found: str = ""
    """What it is else, or what is wrong with it, for people."""


class Looks:
    """Looks at assets. What could not be found out is None: nothing is refused because somebody was away."""

    def __init__(self, ask: Ask, store: ObjectStore, *, look_s: float = LOOK_S) -> None:
        """Args:
        ask: calls a peer: ingest.
        store: where an index lies while it is read.
        look_s: longest time of one look.
        """
        self._ask, self._store, self._look_s = ask, store, look_s
        self._known: OrderedDict[tuple[str, str], Look] = OrderedDict()

    async def look(self, key: str) -> Look | None:
        """What an asset is by its first bytes and its headers; the duration is the one that it claims."""
        return await self._remembered(("claimed", key), lambda: self._ask("ingest.Probe", {"asset_key": key}))

    async def count(self, key: str, *, tenant: str) -> Look | None:
        """The same with the duration counted frame by frame; `tenant` is whose asset it is."""
        return await self._remembered(("counted", key), lambda: self._counted(key, tenant))

    async def _remembered(self, name: tuple[str, str], asks: Any) -> Look | None:
        if name in self._known:
            self._known.move_to_end(name)
            return self._known[name]
        try:
            async with asyncio.timeout(self._look_s):
                answer: Any = await asks()
            found = Look(is_video=True, duration_ms=_duration_ms(answer["info"]))
        except TimeoutError:
            log.warning("an asset could not be looked at in time", extra={"step": name[0]})
            return None
        except MasqueradeError as error:
            if error.explanation.exit is not Exit.REFUSED or error.reason in {"OBJECT_MISSING", "OBJECT_CORRUPT"}:
                return None
            found = _refused(error)
        self._known[name] = found
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        return found

    async def _counted(self, key: str, tenant: str) -> Any:
        # Not under a job: whether there will be one is the question. What a crash leaves is swept as nobody's.
        prefix = job_prefix(tenant=tenant, job=f"check_{secrets.token_hex(8)}")
        try:
            return await self._ask("ingest.Index", {"asset_key": key, "index_key": f"{prefix}index"})
        finally:
            await self._store.delete_prefix(prefix)


def _duration_ms(info: Mapping[str, Any]) -> float:
    base = info["time_base"]
    return float(1000 * (info["end_pts"] - info["first_pts"]) * base["num"] / max(1, base["den"]))


def _refused(error: MasqueradeError) -> Look:
    found = error.fields.get("found", "")
    if error.reason == "NOT_A_VIDEO" and found in PICTURES:
        return Look(is_picture=True, found=found)
    # Without the path: it is ours, and not what the caller named.
    said = from_reason(error.reason, {name: value for name, value in error.fields.items() if name != "path"})
    return Look(found=f"{error.reason}: {said.text()}")
