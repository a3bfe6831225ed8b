"""Opens the object store that the settings name."""

from __future__ import annotations

from services.common.errors import InvalidSetting
from services.common.settings import ServiceSettings
from services.common.store.objects import ObjectStore

OBJECTS = "objects"
"""Folder for objects in the data folder."""


def open_store(settings: ServiceSettings) -> ObjectStore:
    """A folder below the data folder, or a bucket.

    Raises:
        InvalidSetting: the bucket's address or credentials are not given.
    """
    # Imported where it is chosen: a command on a laptop does not load an S3 client.
    if settings.store == "s3":
        from services.common.store.s3 import Bucket, S3Store

        for name in ("s3_endpoint", "s3_bucket"):
            if not getattr(settings, name):
                raise InvalidSetting(setting=name, problem="is empty, and the store is s3")
        bucket = Bucket(
            endpoint=settings.s3_endpoint,
            name=settings.s3_bucket,
            access_key=settings.s3_access_key.get_secret_value(),
            secret_key=settings.s3_secret_key.get_secret_value(),
            is_secure=settings.s3_secure,
        )
        return S3Store(bucket, cache=settings.data / "object-cache")
    from services.common.store.folder import FolderStore

    return FolderStore(settings.data / OBJECTS)
