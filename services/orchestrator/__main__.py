"""Runs the orchestrator alone: `python -m services.orchestrator`."""

from __future__ import annotations

from services.common.running import run_service
from services.orchestrator.app import build
from services.orchestrator.settings import OrchestratorSettings

if __name__ == "__main__":
    run_service(OrchestratorSettings, build)
