"""`python -m services.swapper`: the swapper alone in a process."""

from __future__ import annotations

from services.swapper.app import main

main()
