"""How the asset service is put together."""

from __future__ import annotations

from services.common.deps import Registration, ServiceDeps
from services.common.errors import InvalidSetting
from services.common.records.database import Records
from services.ingest.assets.convert import ENDED_STATES
from services.ingest.assets.downloads import Downloads
from services.ingest.assets.library import Library
from services.ingest.assets.servicer import SERVICE, AssetServicer
from services.ingest.assets.sweeping import DAY_MS, Sweeper, sweep_uploads
from services.ingest.assets.uploads import UploadLimits, Uploads


def asset_service(deps: ServiceDeps, records: Records, limits: UploadLimits, *, uploads_days: int) -> Registration:
    """The service, for the public server.

    Args:
        deps: store, scratch folder and secret.
        records: rows; opened when the service warms up.
        limits: of uploads.
        uploads_days: days after which idle uploads are swept, and for which an asset is kept after its last use.

    Raises:
        InvalidSetting: there is no secret, and names would tell what they name.
    """
    if not deps.secret:
        raise InvalidSetting(setting="secret", problem="is empty")
    kept_ms = uploads_days * DAY_MS
    uploads = Uploads(records, deps.store, scratch=deps.scratch / "uploads", secret=deps.secret, limits=limits)
    downloads = Downloads(records, deps.store)
    library = Library(records, deps.store, ended_states=ENDED_STATES)
    servicer = AssetServicer(uploads, downloads, library, kept_ms=kept_ms)

    async def sweep() -> None:
        await uploads.finishing.sweep()
        await sweep_uploads(records, deps.store, kept_ms, secret=deps.secret, finishing=uploads.finishing)

    sweeper = Sweeper(sweep)

    async def warm() -> None:
        await records.open()
        sweeper.start()

    async def close() -> None:
        await sweeper.close()
        await uploads.close()
        await downloads.close()

    return Registration(service=SERVICE, add=servicer.add_to, warm=warm, close=close, is_public=True)
