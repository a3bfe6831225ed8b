"""`masquerade config`: every setting with its value, where it came from and what it means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from services.standalone.cli import options
from services.standalone.cli.ending import told_in_a_line

if TYPE_CHECKING:
    from services.common.settings import ServiceSettings


def config(data: options.Data = None) -> None:
    """Print every setting with its origin and meaning."""
    with told_in_a_line():
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD)
        for title in ("setting", "value", "origin", "meaning"):
            table.add_column(title, overflow="fold")
        told = set()
        chosen = options.flags(data=data)
        for settings_class in _classes():
            for line in settings_class.load(chosen).lines():
                if line.name not in told:
                    told.add(line.name)
                    table.add_row(*(escape(text) for text in (line.name, line.value, line.origin, line.description)))
        options.console().print(table)


def _classes() -> Iterator[type[ServiceSettings]]:
    """What all share first, then each service's own."""
    from services.common.settings import ServiceSettings
    from services.compositor.settings import CompositorSettings
    from services.detector.settings import DetectorSettings
    from services.ingest.settings import IngestSettings
    from services.orchestrator.settings import OrchestratorSettings
    from services.segmenter.settings import SegmenterSettings
    from services.standalone.settings import StandaloneSettings
    from services.swapper.settings import SwapperSettings

    yield from (ServiceSettings, StandaloneSettings, IngestSettings, DetectorSettings, SwapperSettings)
    yield from (SegmenterSettings, CompositorSettings, OrchestratorSettings)
