"""The geometric swap: a face's picture laid over another face by the mesh, with no network at all."""

from __future__ import annotations
