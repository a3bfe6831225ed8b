"""Whether the audit log is what was written: each entry by its own digest, its place, and the anchors outside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from services.common.audit.anchor import Anchor
from services.common.audit.chain import GENESIS, Entry, canonical, digest_of
from services.common.audit.reading import BATCH_ROWS, batches
from services.common.errors import AuditBroken
from services.common.records.database import Records


@dataclass(frozen=True, slots=True)
class Broken:
    """The first entry that is not what was written."""

    sequence: int
    problem: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What looking at the whole log has shown."""

    entries: int
    """So many are what was written."""

    head: Anchor | None
    """The last of these."""

    anchors: int
    """So many were held against them."""

    broken: Broken | None = None

    def judge(self) -> None:
        """Raises:
        AuditBroken: something is not what was written.
        """
        if self.broken is not None:
            raise AuditBroken(sequence=self.broken.sequence, problem=self.broken.problem)


async def verify(records: Records, anchors: Sequence[Anchor] = (), *, rows: int = BATCH_ROWS) -> Verdict:
    """Walk the log from its beginning to the first entry that is wrong.

    What a change leaves to be seen decides which entry is named. An entry that was edited, moved or taken out is named
    itself. One that was edited together with its own digest, too: the entry behind it still names the old one. Of a log
    that was written anew from some entry on, or cut off, the anchors know; then the first anchored entry that differs
    is named, or the first that is missing.

    Args:
        records: opened.
        anchors: heads that were told outside, in any order.
        rows: in memory at a time.

    Raises:
        Unavailable: the database does not answer.
    """
    walk = _Walk(anchors)
    async for batch in batches(records, rows=rows):
        for row in batch:
            walk.step(row)
            if walk.verdict.broken is not None:
                return walk.verdict
    return walk.end()


class _Walk:
    """How far the log was found in order."""

    def __init__(self, anchors: Sequence[Anchor]) -> None:
        self._anchors: dict[int, set[str]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor.sequence, set()).add(anchor.digest)
        self.verdict = Verdict(0, None, 0)

    def step(self, row: Any) -> None:
        """Look at the next row."""
        broken = self._wrong_with(row)
        if broken is not None:
            self.verdict = replace(self.verdict, broken=broken)
            return
        held = len(self._anchors.get(row.sequence, ()))
        self.verdict = Verdict(
            entries=row.sequence,
            head=Anchor(row.sequence, row.digest, row.time_ms),
            anchors=self.verdict.anchors + held,
        )

    def end(self) -> Verdict:
        """What is known when there are no more rows."""
        newest = max(self._anchors, default=0)
        if newest > self.verdict.entries:
            problem = f"it and all behind it are missing, and {newest} was anchored"
            return replace(self.verdict, broken=Broken(self.verdict.entries + 1, problem))
        return self.verdict

    def _wrong_with(self, row: Any) -> Broken | None:
        expected = self.verdict.entries + 1
        if row.sequence != expected:
            is_late = isinstance(row.sequence, int) and row.sequence > expected
            return Broken(expected, "it is missing" if is_late else "an entry that was never written stands before it")
        if _digest_of(row) != row.digest:
            return Broken(expected, "its content is not what was written")
        previous = self.verdict.head.digest if self.verdict.head else GENESIS
        if row.previous != previous:
            # It is whole, and knows another entry in front of it than the one that is there.
            return Broken(max(expected - 1, 1), "the entry behind it was written behind another one")
        if self._anchors.get(expected, {row.digest}) != {row.digest}:
            return Broken(expected, "another entry was anchored: it, or one before it, was written anew")
        return None


def _digest_of(row: Any) -> str | None:
    """Of a row's own content; None where that is nothing that was ever written."""
    try:
        details = json.loads(row.details)
        if canonical(details) != row.details:
            return None
        entry = Entry(row.tenant, row.actor, row.action, row.object, row.decision, details)
        return digest_of(entry, row.sequence, row.time_ms, row.previous)
    except (TypeError, ValueError, AttributeError, RecursionError):
        return None
