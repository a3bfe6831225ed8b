"""The toy as a service of its own, with one door between services and one for other systems."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from services.common.deps import Registration, ServiceDeps
from services.common.running import run_service
from services.common.settings import ServiceSettings
from tests.contract.toy import Toy


class ToySettings(ServiceSettings):
    """As the detector's: names of settings belong to services that there are."""

    service: ClassVar[str] = "detector"


async def build(_deps: ServiceDeps, _settings: ToySettings | None) -> list[Registration]:
    """The same toy inside and outside."""
    inside, outside = Toy().registration(), Toy().registration()
    outside = dataclasses.replace(outside, is_public=True)
    return [inside, outside]


if __name__ == "__main__":
    run_service(ToySettings, build)
