"""Runs the detector alone: `python -m services.detector`."""

from __future__ import annotations

from services.common.running import run_service
from services.detector.app import build
from services.detector.settings import DetectorSettings

if __name__ == "__main__":
    run_service(DetectorSettings, build)
