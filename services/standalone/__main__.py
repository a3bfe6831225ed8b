"""`python -m services.standalone`: the command `masquerade`."""

from __future__ import annotations

from services.standalone.cli.main import main

if __name__ == "__main__":
    main()
