"""What every service stands on; knows no service."""

from __future__ import annotations

import os

# gRPC writes lines of its own about connections that came and went; our logs are JSON. Read when gRPC is first loaded.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
