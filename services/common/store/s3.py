"""Objects in a bucket of any S3 (endpoint, bucket, credentials): nothing here is particular to one server.

Writes carry `If-None-Match: *`, so the first writer of a key wins; a server that does not know the condition ignores
it, and a look before the write catches all but a race of two writers, who wrote the same step. The digest of an object
is its metadata.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import urllib3
from minio import Minio
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error

from services.common import errors
from services.common.pool import Pool
from services.common.store.objects import CHUNK_BYTES, ObjectInfo, checked_key, checked_prefix, digest_of_file

DIGEST = "x-amz-meta-sha256"
CONNECTIONS = 8
PART_BYTES = 16 << 20
COPY_S = 24 * 3600
"""A local copy that is older goes: what another process deleted must not stay here for ever."""

_EXISTS = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_MISSING = frozenset({"NoSuchKey", "NoSuchObject", "NotFound"})
_FULL = frozenset({"QuotaExceeded", "XMinioStorageFull", "EntityTooLarge"})
_CREDENTIALS = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"})


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the objects are."""

    endpoint: str
    """host:port."""
    name: str
    access_key: str
    secret_key: str
    is_secure: bool = True
    region: str = "us-east-1"


class _WriteOnce(urllib3.PoolManager):
    """Adds the condition to the one request that makes an object appear; the client has no argument for it."""

    def __init__(self) -> None:
        super().__init__(
            num_pools=4,
            maxsize=CONNECTIONS,
            timeout=urllib3.Timeout(connect=5, read=60),
            retries=urllib3.Retry(total=3, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
        )
        self.thread = threading.local()

    def urlopen(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        if getattr(self.thread, "writes_once", False):
            query = url.partition("?")[2]
            appears = (method == "PUT" and "uploadId" not in query) or (method == "POST" and "uploadId=" in query)
            if appears:
                kwargs["headers"] = {**kwargs.get("headers", {}), "If-None-Match": "*"}
        return super().urlopen(method, url, *args, **kwargs)


class S3Store:
    """Objects in a bucket. Local copies for readers are kept in a bounded folder."""

    def __init__(self, bucket: Bucket, *, cache: Path | None = None, cache_bytes: int = 8 << 30) -> None:
        self._bucket = bucket.name
        self._endpoint = bucket.endpoint
        self._http = _WriteOnce()
        self._client = Minio(
            bucket.endpoint,
            access_key=bucket.access_key,
            secret_key=bucket.secret_key,
            secure=bucket.is_secure,
            region=bucket.region,
            http_client=self._http,
        )
        # Its own threads: a slow network must not keep CPU work waiting. Nothing of it holds the GIL for long.
        self._pool = Pool(CONNECTIONS, gil_bound=1)
        self._own_cache = None if cache else tempfile.TemporaryDirectory(prefix="masquerade-objects-")
        self._cache = cache or Path(self._own_cache.name if self._own_cache else "")
        self._cache_bytes = cache_bytes
        self._readers: dict[str, int] = {}
        self._fetching: dict[str, asyncio.Lock] = {}

    async def put_file(self, key: str, path: Path) -> ObjectInfo:
        """See ObjectStore."""
        return await self._pool.run(self._put_path, checked_key(key), path)

    async def put_bytes(self, key: str, content: bytes) -> ObjectInfo:
        """See ObjectStore."""
        return await self._pool.run(self._put_content, checked_key(key), content)

    async def get_bytes(self, key: str) -> bytes:
        """See ObjectStore."""
        return await self._pool.run(self._get, checked_key(key))

    @contextlib.asynccontextmanager
    async def local_path(self, key: str) -> AsyncIterator[Path]:
        """See ObjectStore; the copy stays for the next reader until the cache is full."""
        checked_key(key)
        path = self._copy_of(key)
        self._readers[path.name] = self._readers.get(path.name, 0) + 1
        try:
            async with self._fetching.setdefault(path.name, asyncio.Lock()):
                if not path.exists():
                    await self._pool.run(self._fetch, key, path)
            yield path
        finally:
            self._readers[path.name] -= 1
            if self._readers[path.name] == 0:
                del self._readers[path.name]
                self._fetching.pop(path.name, None)
                # On the loop, not in the pool: nobody can become a reader of a copy between the look and the removal.
                self._evict()

    async def stat(self, key: str) -> ObjectInfo | None:
        """See ObjectStore."""
        return await self._pool.run(self._stat, checked_key(key))

    async def list(self, prefix: str) -> Sequence[ObjectInfo]:
        """See ObjectStore; asks for each object's metadata, because listings do not carry it."""
        return await self._pool.run(self._list, checked_prefix(prefix))

    async def delete(self, key: str) -> None:
        """See ObjectStore."""
        await self._pool.run(self._delete, checked_key(key))
        self._forget([key])

    async def delete_prefix(self, prefix: str) -> int:
        """See ObjectStore."""
        names = await self._pool.run(self._delete_prefix, checked_prefix(prefix))
        self._forget(names)
        return len(names)

    async def close(self) -> None:
        """See ObjectStore."""
        await self._pool.close()
        self._http.clear()
        if self._own_cache is not None:
            self._own_cache.cleanup()

    def _put_path(self, key: str, path: Path) -> ObjectInfo:
        with path.open("rb") as source:
            return self._put(key, source, digest_of_file(path), path.stat().st_size)

    def _put_content(self, key: str, content: bytes) -> ObjectInfo:
        return self._put(key, io.BytesIO(content), hashlib.sha256(content).hexdigest(), len(content))

    def _put(self, key: str, source: BinaryIO, digest: str, count: int) -> ObjectInfo:
        kept = self._stat(key)
        if kept is not None:
            return kept
        with self._s3_errors(key):
            self._http.thread.writes_once = True
            try:
                self._client.put_object(
                    self._bucket,
                    key,
                    source,
                    count,
                    metadata={DIGEST: digest},
                    part_size=PART_BYTES,
                    num_parallel_uploads=1,
                )
            except S3Error as error:
                kept = self._stat(key) if error.code in _EXISTS else None
                if kept is None:
                    raise
                return kept
            finally:
                self._http.thread.writes_once = False
        return ObjectInfo(key, digest, count)

    def _get(self, key: str) -> bytes:
        content = io.BytesIO()
        self._read_into(key, content)
        return content.getvalue()

    def _fetch(self, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as copy:
            try:
                self._read_into(key, copy)
                copy.close()
                Path(copy.name).rename(path)
            except BaseException:
                Path(copy.name).unlink(missing_ok=True)
                raise

    def _read_into(self, key: str, target: Any) -> None:
        sha = hashlib.sha256()
        with self._s3_errors(key):
            response = self._client.get_object(self._bucket, key)
            try:
                for chunk in response.stream(CHUNK_BYTES):
                    sha.update(chunk)
                    target.write(chunk)
                expected = response.headers.get(DIGEST)
            finally:
                response.close()
                response.release_conn()
        if sha.hexdigest() != expected:
            raise errors.ObjectCorrupt(key=key, found=sha.hexdigest(), expected=expected)

    def _stat(self, key: str) -> ObjectInfo | None:
        try:
            with self._s3_errors(key):
                found = self._client.stat_object(self._bucket, key)
        except errors.ObjectMissing:
            return None
        metadata = {name.lower(): value for name, value in (found.metadata or {}).items()}
        return ObjectInfo(key, metadata.get(DIGEST, ""), found.size or 0)

    def _names(self, prefix: str) -> Sequence[str]:
        with self._s3_errors(prefix):
            below = self._client.list_objects(self._bucket, prefix=f"{prefix}/", recursive=True)
            return [found.object_name for found in below if found.object_name]

    def _list(self, prefix: str) -> Sequence[ObjectInfo]:
        found = [self._stat(key) for key in sorted([prefix, *self._names(prefix)])]
        return [info for info in found if info is not None]

    def _delete(self, key: str) -> None:
        with self._s3_errors(key):
            self._client.remove_object(self._bucket, key)

    def _delete_prefix(self, prefix: str) -> Sequence[str]:
        names = [*self._names(prefix), *([prefix] if self._stat(prefix) else [])]
        with self._s3_errors(prefix):
            for failure in self._client.remove_objects(self._bucket, [DeleteObject(name) for name in names]):
                raise errors.Unavailable(peer="the object store", detail=failure.message or failure.code)
        return names

    def _copy_of(self, key: str) -> Path:
        return self._cache / hashlib.sha256(key.encode()).hexdigest()

    def _forget(self, keys: Iterable[str]) -> None:
        """Copies go with their objects; who has one open reads on. Those of other processes grow too old."""
        for key in keys:
            self._copy_of(key).unlink(missing_ok=True)

    def _evict(self) -> None:
        """Remove copies that are too old, and those that were fetched longest ago until the rest fits."""
        copies = [path for path in self._cache.iterdir() if path.is_file()] if self._cache.is_dir() else []
        total = sum(path.stat().st_size for path in copies)
        stale = time.time() - COPY_S
        for path in sorted(copies, key=lambda path: path.stat().st_mtime):
            if total <= self._cache_bytes and path.stat().st_mtime > stale:
                return
            if path.name not in self._readers and not path.name.startswith("."):
                total -= path.stat().st_size
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _s3_errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except S3Error as error:
            code = error.code or ""
            if code in _MISSING:
                raise errors.ObjectMissing(key=key) from error
            if code == "NoSuchBucket":
                raise errors.InvalidSetting(setting="s3_bucket", value=self._bucket, problem=code) from error
            if code in _CREDENTIALS:
                raise errors.InvalidSetting(setting="s3_access_key", problem=code) from error
            if code in _FULL:
                raise errors.NoSpace(path=self._endpoint, detail=code) from error
            raise errors.Unavailable(peer="the object store", detail=code) from error
        except (urllib3.exceptions.HTTPError, MinioException) as error:
            raise errors.Unavailable(
                peer="the object store", detail=f"{self._endpoint}: {type(error).__name__}"
            ) from error
