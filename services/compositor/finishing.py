"""From segments to an artifact: assemble, verify, finalise, each a step that can be done again.

Every step finds what an earlier attempt left under its key and answers it. The files are worked on in children
(`children.py`): the source's container is a stranger's.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.common.child import ChildLimits, run_in_child
from services.common.errors import InvalidSpec, ObjectCorrupt
from services.common.media.index import read_index
from services.compositor import children
from services.compositor.carriage import Container
from services.compositor.encoding import EncodeSettings, settings_for
from services.compositor.finalising import Finalised, NoSigner, Signer, finalise
from services.compositor.timetable import Range, timetable

if TYPE_CHECKING:
    from services.common.store.objects import ObjectInfo, ObjectStore

# What assembling found out, beside the file: a retry answers it without doing the work again.
FINDINGS_SUFFIX = ".assembled"


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """A rendered segment as the order names it."""

    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class AssembleOrder:
    """What to put together."""

    asset_key: str
    index_key: str
    segments: Sequence[SegmentRef]
    output_key: str
    keep: Sequence[Range] = ()
    encode: EncodeSettings = field(default_factory=EncodeSettings)
    container: Container = Container.MP4
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AssembledFile:
    """The stored file, not yet verified."""

    file: ObjectInfo
    frames: int
    offset: Fraction
    remarks: Sequence[str]


@dataclass(frozen=True, slots=True)
class VerifyOrder:
    """What to hold against what."""

    file_key: str
    asset_key: str
    index_key: str
    keep: Sequence[Range]
    offset: Fraction


@dataclass(frozen=True, slots=True)
class Verified:
    """What was proved."""

    frames: int
    max_pts_error: Fraction
    gates: Sequence[str]


@dataclass(frozen=True, slots=True)
class FileLimits:
    """What one whole video may cost a child."""

    memory_bytes: int = 1536 << 20
    file_bytes: int = 64 << 30
    wall_s: float = 4 * 3600.0
    cpu_s: int = 4 * 3600

    def child(self, *, writes: bool) -> ChildLimits:
        """Limits of the child that does the work."""
        return ChildLimits(
            memory_bytes=self.memory_bytes,
            cpu_s=self.cpu_s,
            file_bytes=self.file_bytes if writes else 0,
            wall_s=self.wall_s,
        )


class Finishing:
    """The steps after the last segment."""

    def __init__(
        self, *, store: ObjectStore, scratch: Path, limits: FileLimits | None = None, signer: Signer | None = None
    ) -> None:
        self._store, self._scratch = store, scratch
        self._limits = limits or FileLimits()
        self._signer: Signer = signer or NoSigner()

    async def assemble(self, order: AssembleOrder) -> AssembledFile:
        """Put segments and the source's other streams into one file and store it."""
        if not order.segments:
            raise InvalidSpec(field="segments", problem="there is none")
        found = await self._assembled(order.output_key)
        if found is not None:
            return found
        index = await self._index(order.index_key, order.keep)
        async with AsyncExitStack() as open_things:
            source = await open_things.enter_async_context(self._store.local_path(order.asset_key))
            segments = [await self._segment(ref, open_things) for ref in order.segments]
            folder = open_things.enter_context(tempfile.TemporaryDirectory(dir=self._scratch, prefix="assembly-"))
            output = Path(folder) / f"assembled{order.container.suffix}"
            findings = await self._in_child(
                children.assemble_files,
                {"source": str(source), "segments": [str(path) for path in segments], "output": str(output)},
                index,
                [[part.first, part.last] for part in order.keep],
                {
                    "container": order.container.value,
                    "settings": children.packed_settings(settings_for(order.container.suffix, order.encode)),
                    "tags": dict(order.tags),
                },
                about=order.asset_key,
                writes=True,
            )
            await self._store.put_bytes(order.output_key + FINDINGS_SUFFIX, json.dumps(findings).encode())
            file = await self._store.put_file(order.output_key, output)
        return _assembled(file, findings)

    async def verify(self, order: VerifyOrder) -> Verified:
        """Decode all of an assembled file and hold it against the source and its index."""
        index = await self._index(order.index_key, order.keep)
        async with self._store.local_path(order.file_key) as file, self._store.local_path(order.asset_key) as source:
            proved = await self._in_child(
                children.verify_file,
                {"file": str(file), "source": str(source)},
                index,
                [[part.first, part.last] for part in order.keep],
                [order.offset.numerator, order.offset.denominator],
                about=order.file_key,
                writes=False,
            )
        return Verified(int(proved["frames"]), Fraction(*proved["max_pts_error"]), [str(g) for g in proved["gates"]])

    async def finalise(self, *, file_key: str, output_key: str, record_json: str) -> Finalised:
        """Write the record and publish the file beside it."""
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix="artifact-") as folder:
            return await finalise(
                self._store,
                self._signer,
                file_key=file_key,
                output_key=output_key,
                record_json=record_json,
                scratch=Path(folder),
            )

    async def _assembled(self, key: str) -> AssembledFile | None:
        """The file as an earlier attempt left it."""
        file = await self._store.stat(key)
        if file is None or await self._store.stat(key + FINDINGS_SUFFIX) is None:
            return None
        return _assembled(file, json.loads(await self._store.get_bytes(key + FINDINGS_SUFFIX)))

    async def _index(self, key: str, keep: Sequence[Range]) -> bytes:
        """The index's bytes, once it is known that the ranges lie in it."""
        stored = await self._store.get_bytes(key)
        index = read_index(stored, key=key)
        try:
            timetable(pts=index.pts, end=index.end, time_base=index.time_base, keep=keep)
        except ValueError as error:
            raise InvalidSpec(field="keep", problem=str(error)) from error
        return stored

    async def _segment(self, ref: SegmentRef, open_things: AsyncExitStack) -> Path:
        path = await open_things.enter_async_context(self._store.local_path(ref.key))
        known = await self._store.stat(ref.key)
        if ref.digest and known is not None and known.digest != ref.digest:
            raise ObjectCorrupt(key=ref.key, expected=ref.digest, found=known.digest)
        return path

    async def _in_child(self, function: Callable[..., Any], *args: Any, about: str, writes: bool) -> Any:
        return await run_in_child(function, *args, limits=self._limits.child(writes=writes), about=about)


def _assembled(file: ObjectInfo, findings: Mapping[str, Any]) -> AssembledFile:
    return AssembledFile(
        file, int(findings["frames"]), Fraction(*findings["offset"]), [str(one) for one in findings["remarks"]]
    )
