"""To come: consent of the command."""

from __future__ import annotations
