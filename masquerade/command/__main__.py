"""`python -m masquerade.command`."""

from __future__ import annotations

from masquerade.command.main import main

main()
