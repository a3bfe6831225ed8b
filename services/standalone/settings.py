"""To come: settings of the command."""

from __future__ import annotations
