"""Which names of settings exist; a name that nobody reads is an error that names the nearest.

Kubernetes puts variables of its own beside ours (`MASQUERADE_INGEST_SERVICE_HOST`, `MASQUERADE_INGEST_PORT_..._TCP`);
those are ignored.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from services.common.errors import InvalidSetting, UnknownSetting

PREFIX = "MASQUERADE_"
SERVICES = ("ingest", "detector", "swapper", "segmenter", "compositor", "orchestrator", "standalone")
NOT_SETTINGS = frozenset({f"{PREFIX}{name}" for name in ("SHARED", "ENDPOINT", "KEY", "KEY_FILE", "CA")})
"""Read by tests, and by clients that may run in the same environment."""

_SERVICE_LINK = re.compile(r"MASQUERADE_([A-Z0-9_]+_)?(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[A-Z0-9_]+)?)")


def check_environment(environ: Mapping[str, str], *, common: set[str], service: str, fields: set[str]) -> None:
    """UnknownSetting for a variable with our prefix that no setting reads.

    Args:
        environ: the environment.
        common: fields that all services have.
        service: whose settings are loaded; variables of other services are theirs to check.
        fields: all fields of this service.
    """
    known = {f"{PREFIX}{name.upper()}" for name in common}
    if service:
        known |= {f"{PREFIX}{service.upper()}__{name.upper()}" for name in fields}
    others = {f"{PREFIX}{other.upper()}__{name.upper()}" for other in SERVICES for name in common}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable in known or variable in NOT_SETTINGS:
            continue
        owner = variable.removeprefix(PREFIX).partition("__")[0].lower() if "__" in variable else ""
        if (owner in SERVICES and owner != service) or _SERVICE_LINK.fullmatch(variable):
            continue
        raise UnknownSetting(setting=variable, nearest=nearest(variable, known | others))


def check_file(table: Mapping[str, Any], *, common: set[str], service: str, fields: set[str]) -> None:
    """UnknownSetting for a key of masquerade.toml that no setting reads."""
    for key, value in table.items():
        if key in SERVICES:
            if not isinstance(value, dict):
                raise InvalidSetting(setting=key, problem="is the name of a service and must be a table")
            for name in value if key == service else ():
                if name not in fields:
                    raise UnknownSetting(setting=f"{key}.{name}", nearest=nearest(name, fields), file="masquerade.toml")
        elif key == "data":
            raise InvalidSetting(setting="data", problem="masquerade.toml lies in the data folder and cannot move it")
        elif key not in common:
            raise UnknownSetting(setting=key, nearest=nearest(key, {*common, *SERVICES}), file="masquerade.toml")


def read_file(path: Path) -> dict[str, Any]:
    """masquerade.toml, or nothing where there is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSetting(setting=str(path), problem=str(error)) from None
    except OSError as error:
        # The data folder is a file, or may not be read: said here, because settings are what looks there first.
        raise InvalidSetting(setting="data", value=str(path.parent), problem=error.strerror or str(error)) from None


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like this one."""
    matches = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return matches[0] if matches else None
