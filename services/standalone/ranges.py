"""To come: ranges of the command."""

from __future__ import annotations
