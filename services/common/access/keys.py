"""API keys: made, listed, revoked, and their text.

A key reads `msq_ID_SECRET`. The id is shown in lists and in the audit log. The secret is 32 random bytes, then 8 bytes
of a check that only this installation can make: a text that merely looks like a key is refused without a look into
the database.

What is stored is an HMAC of the secret under the installation's own. That is enough, and a slow hash would be wrong:
scrypt and its like make the guessing of passwords dear, and nobody guesses 256 random bits, while its cost would be
paid with each call and be a lever for floods. The installation's secret lies elsewhere: a stolen database alone does
not even tell whether a key belongs to it.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import time
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from services.common import errors
from services.common.access.callers import is_tenant
from services.common.audit import log as audit
from services.common.audit.chain import Entry
from services.common.records import tables
from services.common.records.database import Records

PREFIX: Final = "msq_"
"""What every key begins with: who scans for leaked secrets finds it by that."""

NAME_CHARACTERS: Final = 200
_SECRET_BYTES: Final = 32
_CHECK_BYTES: Final = 8
_TEXT: Final = re.compile(r"msq_([a-z2-7]{26})_([a-z2-7]{64})")


@dataclass(frozen=True, slots=True)
class Key:
    """A key as it is stored."""

    id: str
    tenant: str
    name: str
    hash: str
    created_ms: int
    expires_ms: int | None
    revoked_ms: int | None

    def state(self, now_ms: int) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_ms is not None:
            return "revoked"
        return "expired" if self.expires_ms is not None and now_ms >= self.expires_ms else "active"


@dataclass(frozen=True, slots=True)
class Presented:
    """A key as a caller showed it: made here, and not yet looked up."""

    id: str
    hash: str


def presented(text: str, secret: bytes) -> Presented | None:
    """What a text says that looks like a key, or None where this installation cannot have made it.

    Args:
        text: what the caller sent.
        secret: of this installation.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    key_id = f"key_{match[1]}"
    both = base64.b32decode(match[2].upper())
    own, check = both[:_SECRET_BYTES], both[_SECRET_BYTES:]
    if not hmac.compare_digest(check, _check(key_id, own, secret)):
        return None
    return Presented(key_id, _hash(key_id, own, secret))


async def make(
    records: Records, secret: bytes, *, tenant: str, actor: str, name: str = "", expires_ms: int | None = None
) -> tuple[Key, str]:
    """Make a key and say so in the audit log.

    Args:
        records: opened.
        secret: of this installation, the same for all its services.
        tenant: whose things the holder may see.
        actor: who makes it, for the audit log.
        name: for the reader of lists.
        expires_ms: Unix ms from which on it does not hold; None never ends.

    Returns:
        The key, and its text: the only copy there will ever be.

    Raises:
        InvalidSpec: a tenant or a name that cannot be, or an end that is over.
    """
    now_ms = time.time_ns() // 1_000_000
    if not is_tenant(tenant):
        raise errors.InvalidSpec(field="tenant", problem="has 1 to 64 letters, digits, dots, dashes and underscores")
    if len(name) > NAME_CHARACTERS or not name.isprintable():
        raise errors.InvalidSpec(field="name", problem=f"is a line of at most {NAME_CHARACTERS} characters")
    if expires_ms is not None and expires_ms <= now_ms:
        raise errors.InvalidSpec(field="expires_ms", problem="is over already")
    bare_id = _words(os.urandom(17))[:26]
    key_id, own = f"key_{bare_id}", os.urandom(_SECRET_BYTES)
    key = Key(key_id, tenant, name, _hash(key_id, own, secret), now_ms, expires_ms, None)

    def write(connection: sa.Connection) -> None:
        values = {column.name: getattr(key, column.name) for column in tables.keys.columns}
        connection.execute(tables.keys.insert().values(values))
        audit.append(connection, Entry(tenant, actor, "key.created", key_id, details={"expires_ms": expires_ms}))

    await records.write(write)
    return key, f"{PREFIX}{bare_id}_{_words(own + _check(key_id, own, secret))}"


async def list_keys(records: Records, *, tenant: str | None = None) -> list[Key]:
    """All keys, or those of one tenant; newest first."""
    statement = sa.select(tables.keys).order_by(tables.keys.c.created_ms.desc(), tables.keys.c.id)
    if tenant is not None:
        statement = statement.where(tables.keys.c.tenant == tenant)
    return await records.read(lambda connection: [_key(row) for row in connection.execute(statement)])


async def find(records: Records, key_id: str) -> Key | None:
    """The key with this id."""
    statement = sa.select(tables.keys).where(tables.keys.c.id == key_id)
    row = await records.read(lambda connection: connection.execute(statement).first())
    return None if row is None else _key(row)


async def revoke(records: Records, key_id: str, *, actor: str) -> Key:
    """End a key, and say so in the audit log; one that has been revoked stays so and is no error.

    Raises:
        InvalidSpec: no key has this id.
    """
    now_ms = time.time_ns() // 1_000_000

    def write(connection: sa.Connection) -> Key:
        row = connection.execute(sa.select(tables.keys).where(tables.keys.c.id == key_id)).first()
        if row is None:
            raise errors.InvalidSpec(
                field="id", problem="no key has this id", remedy="`masquerade keys list` shows the ids of all keys"
            )
        changed = connection.execute(
            sa.update(tables.keys)
            .where(tables.keys.c.id == key_id, tables.keys.c.revoked_ms.is_(None))
            .values(revoked_ms=now_ms)
        ).rowcount
        if changed:
            audit.append(connection, Entry(row.tenant, actor, "key.revoked", key_id))
        return _key(connection.execute(sa.select(tables.keys).where(tables.keys.c.id == key_id)).one())

    return await records.write(write)


def _key(row: sa.Row[tuple[object, ...]]) -> Key:
    return Key(**row._mapping)


def _hash(key_id: str, own: bytes, secret: bytes) -> str:
    return hmac.digest(secret, b"masquerade key\0" + key_id.encode() + b"\0" + own, "sha256").hex()


def _check(key_id: str, own: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, b"masquerade key check\0" + key_id.encode() + b"\0" + own, "sha256")[:_CHECK_BYTES]


def _words(content: bytes) -> str:
    return base64.b32encode(content).decode().rstrip("=").lower()
