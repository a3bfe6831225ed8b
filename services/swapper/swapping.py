"""Faces in, patches out: the identity prepared once, the engine chosen by name, the work in the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from masquerade.identity import Identity, IdentityFormatError, read_identity
from masquerade.timeline import TimelineFormatError, TrackTextures, read_textures
from services.common.errors import AnswerMismatch, IdentityNotFound, ObjectCorrupt
from services.common.pool import Pool
from services.common.store.objects import ObjectStore
from services.swapper.cache import ByteCache
from services.swapper.engines import FaceCrop, Options, Patch, Source, SwapEngine, Texture
from services.swapper.registry import complete, engine

FACES_PER_TASK = 4
"""Faces that one worker of the pool takes at once: some 20 ms of work, so that a cancelled batch ends soon."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFace:
    """A face to cover, and which track it belongs to; its texture is looked up."""

    track: int
    face: FaceCrop


@dataclass(frozen=True, slots=True)
class SwapOrder:
    """What all faces of a batch have in common.

    Attributes:
        identity_key: object of the identity.
        engine: by name.
        options: of the engine, those that were asked for.
        textures_key: object of the track textures; empty if occlusion is not to be judged.
    """

    identity_key: str
    engine: str
    options: Mapping[str, str]
    textures_key: str = ""


class Swapping:
    """Puts identities onto faces. What it keeps is a cache and nothing else."""

    def __init__(self, store: ObjectStore, pool: Pool, *, source_bytes: int, texture_bytes: int) -> None:
        """Take what swapping stands on.

        Args:
            store: where identities and textures lie.
            pool: where engines run.
            source_bytes: most bytes of prepared identities.
            texture_bytes: most bytes of track textures.
        """
        self._store = store
        self._pool = pool
        self._sources: ByteCache[Source] = ByteCache(source_bytes, nbytes=lambda source: source.nbytes)
        self._textures: ByteCache[TrackTextures] = ByteCache(
            texture_bytes, nbytes=lambda textures: textures.mean.nbytes + textures.var.nbytes
        )

    async def swap(self, order: SwapOrder, faces: Sequence[TrackedFace]) -> list[Patch | None]:
        """A patch for each face, in the order given; None where nothing of it is to be changed.

        Raises:
            UnknownEngine, InvalidSpec: there is no such engine, or it has no such option.
            IdentityNotFound, ObjectMissing, ObjectCorrupt: the store does not hold what was named.
        """
        chosen = engine(order.engine)
        options = complete(chosen, order.options)
        source, textures = await asyncio.gather(
            self._source(order.identity_key, chosen, options), self._texture(order.textures_key)
        )
        crops = [replace(one.face, texture=_texture_of(textures, one.track)) for one in faces]
        shares = [crops[first : first + FACES_PER_TASK] for first in range(0, len(crops), FACES_PER_TASK)]
        # All are awaited even if one fails: the crops lie in memory that is lent for the length of this call.
        answers = await asyncio.gather(
            *(self._pool.run_gil_bound(chosen.swap, share, source, options) for share in shares), return_exceptions=True
        )
        patches: list[Patch | None] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            patches += answer
        if len(patches) != len(faces):
            raise AnswerMismatch(asked=len(faces), answered=len(patches))
        return patches

    async def _source(self, key: str, chosen: SwapEngine, options: Options) -> Source:
        """The prepared identity. The store is asked each time: what was erased there is not used from a cache."""
        info = await self._store.stat(key)
        if info is None:
            raise IdentityNotFound(identity=key)

        async def make() -> Source:
            identity = _identity(await self._store.get_bytes(key), key)
            return await self._pool.run(chosen.prepare, identity, options)

        return await self._sources.get((info.digest, chosen.name, *sorted(options.items())), make)

    async def _texture(self, key: str) -> TrackTextures | None:
        if not key:
            return None

        async def make() -> TrackTextures:
            try:
                return read_textures(await self._store.get_bytes(key))
            except TimelineFormatError as error:
                raise ObjectCorrupt(key=key) from error

        return await self._textures.get(key, make)


def _identity(content: bytes, key: str) -> Identity:
    try:
        return read_identity(content)
    except IdentityFormatError as error:
        raise ObjectCorrupt(key=key) from error


def _texture_of(textures: TrackTextures | None, track: int) -> Texture | None:
    found = None if textures is None else textures.of(track)
    return None if found is None else Texture(mean=found[0], variance=found[1])
