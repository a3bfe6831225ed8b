"""What a key is: its text, its hash, its lines in the audit log."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from services.common import errors
from services.common.access import keys
from services.common.records.database import Records
from tests.support.callers import SECRET


async def actions(records: Records) -> list[tuple[str, str, str, str]]:
    from services.common.records.tables import audit

    rows = await records.read(lambda connection: list(connection.execute(audit.select().order_by("sequence"))))
    return [(row.action, row.object, row.tenant, row.actor) for row in rows]


async def test_a_keys_text_leads_to_its_row_and_its_row_not_to_its_text(records: Records, tmp_path: Path) -> None:
    key, text = await keys.make(records, SECRET, tenant="studio", actor="local", name="ci")
    shown = keys.presented(text, SECRET)
    assert shown is not None
    assert (shown.id, shown.hash) == (key.id, key.hash)
    assert await keys.find(records, key.id) == key
    await records.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.id.encode() in stored
    assert text.rpartition("_")[2].encode() not in stored


async def test_no_two_keys_are_alike(records: Records) -> None:
    made = [await keys.make(records, SECRET, tenant="studio", actor="local") for _ in range(20)]
    for part in (0, 1, 2):
        assert len({text.split("_")[part] for _, text in made}) == (1 if part == 0 else 20)


async def test_every_changed_character_is_noticed_before_the_database_is_asked(records: Records) -> None:
    _, text = await keys.make(records, SECRET, tenant="studio", actor="local")
    for place in range(len(text)):
        for other in "a7_A ":
            if other != text[place]:
                assert keys.presented(text[:place] + other + text[place + 1 :], SECRET) is None
    assert keys.presented(text, SECRET + b"x") is None


async def test_lists_show_one_tenant_or_all_newest_first(records: Records) -> None:
    first, _ = await keys.make(records, SECRET, tenant="a", actor="local")
    await asyncio.sleep(0.002)
    second, _ = await keys.make(records, SECRET, tenant="b", actor="local")
    assert await keys.list_keys(records) == [second, first]
    assert await keys.list_keys(records, tenant="a") == [first]


async def test_making_and_revoking_are_lines_of_the_audit_log(records: Records) -> None:
    key, _ = await keys.make(records, SECRET, tenant="studio", actor="local", name="Anna's laptop")
    once = await keys.revoke(records, key.id, actor="local")
    again = await keys.revoke(records, key.id, actor="local")
    assert once == again
    assert once.state(time.time_ns() // 1_000_000) == "revoked"
    assert await actions(records) == [
        ("key.created", key.id, "studio", "local"),
        ("key.revoked", key.id, "studio", "local"),
    ]


async def test_a_key_nobody_made_cannot_be_revoked(records: Records) -> None:
    with pytest.raises(errors.InvalidSpec, match="no key has this id"):
        await keys.revoke(records, "key_x", actor="local")
    assert await actions(records) == []


@pytest.mark.parametrize("tenant", ["", ".", "..", "../b", "a/b", "-a", ".a", "a b", "a\n", "ä", "a" * 65, "a\0b"])
async def test_a_tenant_that_could_lead_elsewhere_gets_no_key(tenant: str, records: Records) -> None:
    with pytest.raises(errors.InvalidSpec, match="tenant"):
        await keys.make(records, SECRET, tenant=tenant, actor="local")
    assert await keys.list_keys(records) == []


@pytest.mark.parametrize("wrong", [{"name": "two\nlines"}, {"name": "x" * 201}, {"expires_ms": 1}])
async def test_what_else_cannot_be_is_refused(wrong: dict[str, object], records: Records) -> None:
    with pytest.raises(errors.InvalidSpec):
        await keys.make(records, SECRET, tenant="studio", actor="local", **wrong)  # type: ignore[arg-type]
    assert await actions(records) == []


def test_the_end_of_a_key_is_the_first_moment_at_which_it_does_not_hold() -> None:
    key = keys.Key("key_a", "studio", "", "", created_ms=0, expires_ms=100, revoked_ms=None)
    assert [key.state(now_ms) for now_ms in (99, 100, 101)] == ["active", "expired", "expired"]
