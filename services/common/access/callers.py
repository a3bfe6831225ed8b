"""Who calls: set once by the interceptor of a public door, read by whoever serves the call."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from services.common.errors import Unauthenticated


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose things a call may see, and who answers for it."""

    tenant: str
    """Every object, row and limit belongs to one; another tenant's id is not found."""

    actor: str
    """For the audit log: `key:ID`, `jwt:SUBJECT` or `local`. Never a secret."""


LOCAL: Final = Caller("local", "local")
"""Whoever sits at the machine on which everything runs in one process."""

_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)

_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_tenant(name: object) -> bool:
    """Whether it may name a tenant: it stands in object keys, so it leads nowhere else. At most 64 characters."""
    return isinstance(name, str) and _TENANT.fullmatch(name) is not None


def current_caller() -> Caller:
    """Who makes the call that is being served.

    Raises:
        Unauthenticated: nobody said; a door that forgot to ask must not serve.
    """
    caller = _CALLER.get()
    if caller is None:
        raise Unauthenticated(problem="the call carries no caller")
    return caller


def set_caller(caller: Caller | None) -> None:
    """For the rest of the current task."""
    _CALLER.set(caller)
