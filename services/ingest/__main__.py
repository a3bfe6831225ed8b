"""Runs ingest alone: `python -m services.ingest`."""

from __future__ import annotations

from services.common.running import run_service
from services.ingest.app import build
from services.ingest.settings import IngestSettings

if __name__ == "__main__":
    run_service(IngestSettings, build)
