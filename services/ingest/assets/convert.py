"""Messages of the contract to what assets are here, and back; nothing else knows both."""

from __future__ import annotations

from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from masquerade.v1 import asset_pb2 as pb
from masquerade.v1 import job_pb2
from services.ingest.assets.downloads import Piece
from services.ingest.assets.library import Page
from services.ingest.assets.rows import Asset
from services.ingest.assets.uploads import Upload

ENDED_STATES: Final[frozenset[int]] = frozenset(
    (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)
)
"""States in which a job needs its inputs no more, as the rows of jobs have them."""


def asset(found: Asset, *, kept_ms: int) -> pb.Asset:
    """An asset; it is kept for so long after its last use."""
    return pb.Asset(
        id=found.id,
        name=found.name,
        size_bytes=found.size_bytes,
        digest=found.digest,
        create_time=_time(found.created_ms),
        expire_time=_time(found.used_ms + kept_ms),
    )


def upload(done: Upload, *, kept_ms: int) -> pb.UploadAssetResponse:
    """How far an upload is, and what it has brought."""
    response = pb.UploadAssetResponse(confirmed_bytes=done.confirmed_bytes)
    if done.asset is not None:
        response.asset.CopyFrom(asset(done.asset, kept_ms=kept_ms))
    return response


def page(found: Page, *, kept_ms: int) -> pb.ListAssetsResponse:
    """Some assets."""
    assets = [asset(each, kept_ms=kept_ms) for each in found.assets]
    return pb.ListAssetsResponse(assets=assets, next_page_token=found.next_page_token)


def piece(read: Piece) -> pb.DownloadAssetResponse:
    """Some bytes."""
    return pb.DownloadAssetResponse(offset=read.offset, chunk=read.content, size_bytes=read.size_bytes)


def _time(unix_ms: int) -> Timestamp:
    time = Timestamp()
    time.FromMilliseconds(unix_ms)
    return time
