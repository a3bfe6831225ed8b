"""The audit log: whatever is done to it, the verifier finds the first entry that is not what was written."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import sqlite3
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.common.audit.anchor import Anchor, Anchoring, FileAnchorage, StoreAnchorage, anchorages, head, publish
from services.common.audit.chain import GENESIS, Entry, Link, canonical, digest_of, link
from services.common.audit.log import append, write
from services.common.audit.reading import lines
from services.common.audit.verify import Verdict, verify
from services.common.errors import AuditBroken, InvalidSpec, OutputUnwritable
from services.common.records.database import Records
from services.common.records.tables import audit, jobs
from services.common.store.folder import FolderStore

ENTRIES = 24


def url_of(file: Path) -> str:
    return f"sqlite:///{file}"


async def opened(file: Path) -> Records:
    records = Records(url_of(file))
    await records.open()
    return records


def entry(number: int) -> Entry:
    return Entry("t", f"key:{number % 3}", "job.state", f"job_{number}", details={"state": number, "ä": ["x", None]})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of some entries, in one file."""
    file = tmp_path_factory.mktemp("audit") / "records.sqlite"

    async def fill() -> None:
        records = await opened(file)
        for number in range(1, ENTRIES + 1):
            await write(records, entry(number))
        await records.close()

    asyncio.run(fill())
    assert not file.with_name("records.sqlite-wal").exists()
    return file


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(whole, tmp_path / "copy.sqlite"))


async def verdict(file: Path, anchors: tuple[Anchor, ...] = (), *, rows: int = 5) -> Verdict:
    records = await opened(file)
    try:
        return await verify(records, anchors, rows=rows)
    finally:
        await records.close()


def change(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def links(file: Path) -> list[Link]:
    with closing(sqlite3.connect(file)) as connection:
        rows = connection.execute(
            "SELECT sequence, time_ms, tenant, actor, action, object, decision, details, previous, digest"
            " FROM audit ORDER BY sequence"
        )
        return [Link(r[0], r[1], Entry(*r[2:7], json.loads(r[7])), r[8], r[9]) for r in rows]


def put(file: Path, wanted: list[Link]) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DELETE FROM audit")
        for each in wanted:
            e = each.entry
            row = (each.sequence, each.time_ms, e.tenant, e.actor, e.action, e.object, e.decision)
            values = (*row, canonical(e.details), each.previous, each.digest)
            connection.execute(f"INSERT INTO audit VALUES ({', '.join('?' * len(values))})", values)
        connection.commit()


def again(wanted: list[Link], *, first: int) -> list[Link]:
    """The same entries, chained anew from one on: what who knows the software can do."""
    made = wanted[: first - 1]
    for each in wanted[first - 1 :]:
        previous = made[-1].digest if made else GENESIS
        made.append(link(each.entry, sequence=len(made) + 1, time_ms=each.time_ms, previous=previous))
    return made


async def test_a_log_that_nobody_touched_is_whole(copy: Path) -> None:
    found = await verdict(copy)
    assert (found.entries, found.broken) == (ENTRIES, None)
    found.judge()
    assert found.head is not None
    assert found.head.digest == links(copy)[-1].digest


@pytest.mark.parametrize("rows", [1, 7, ENTRIES, 1000])
async def test_an_empty_log_and_any_size_of_batches_are_fine(rows: int, copy: Path, tmp_path: Path) -> None:
    assert (await verdict(copy, rows=rows)).entries == ENTRIES
    assert await verdict(tmp_path / "empty.sqlite", rows=rows) == Verdict(0, None, 0)


EDITS: dict[str, tuple[str, int]] = {
    "actor": ("UPDATE audit SET actor = 'key:9' WHERE sequence = 7", 7),
    "action": ("UPDATE audit SET action = 'job.created' WHERE sequence = 1", 1),
    "object": ("UPDATE audit SET object = object || 'x' WHERE sequence = 24", 24),
    "tenant": ("UPDATE audit SET tenant = 'u' WHERE sequence = 12", 12),
    "decision": ("UPDATE audit SET decision = 'refused' WHERE sequence = 3", 3),
    "time": ("UPDATE audit SET time_ms = time_ms + 1 WHERE sequence = 7", 7),
    "time as text": ("UPDATE audit SET time_ms = 'x' WHERE sequence = 7", 7),
    "details": ("UPDATE audit SET details = replace(details, '7', '8') WHERE sequence = 7", 7),
    "details spelt otherwise": ("UPDATE audit SET details = details || ' ' WHERE sequence = 7", 7),
    "details no JSON": ("UPDATE audit SET details = '{' WHERE sequence = 7", 7),
    "details as bytes": ("UPDATE audit SET details = x'7b7d' WHERE sequence = 7", 7),
    "bytes that are no text": ("UPDATE audit SET actor = CAST(x'ff00fe' AS TEXT) WHERE sequence = 7", 7),
    "digest": ("UPDATE audit SET digest = substr(digest, 2) || substr(digest, 1, 1) WHERE sequence = 7", 7),
    "previous": ("UPDATE audit SET previous = substr(previous, 2) || substr(previous, 1, 1) WHERE sequence = 7", 7),
    "first previous": ("UPDATE audit SET previous = 'x' WHERE sequence = 1", 1),
    "deleted": ("DELETE FROM audit WHERE sequence = 7", 7),
    "deleted first": ("DELETE FROM audit WHERE sequence = 1", 1),
    "deleted several": ("DELETE FROM audit WHERE sequence IN (9, 10, 20)", 9),
    "moved": ("UPDATE audit SET sequence = 99 WHERE sequence = 7", 7),
    "moved to the front": ("UPDATE audit SET sequence = 0 WHERE sequence = 7", 1),
    "not a number": ("UPDATE audit SET sequence = 'seven' WHERE sequence = 7", 7),
    "not a whole number": ("UPDATE audit SET sequence = 6.5 WHERE sequence = 7", 7),
    "inserted behind": (
        "INSERT INTO audit SELECT 25, time_ms, tenant, actor, action, object, decision, details, previous, digest"
        " FROM audit WHERE sequence = 24",
        25,
    ),
}


@pytest.mark.parametrize("case", EDITS)
async def test_the_first_wrong_entry_is_named(case: str, copy: Path) -> None:
    statement, sequence = EDITS[case]
    change(copy, statement)
    found = await verdict(copy)
    assert found.broken is not None
    assert found.broken.sequence == sequence
    assert found.entries == sequence - 1
    with pytest.raises(AuditBroken) as caught:
        found.judge()
    assert caught.value.fields["sequence"] == str(sequence)


async def test_exchanged_entries_are_found_at_the_first(copy: Path) -> None:
    change(
        copy,
        "UPDATE audit SET sequence = -1 WHERE sequence = 7",
        "UPDATE audit SET sequence = 7 WHERE sequence = 15",
        "UPDATE audit SET sequence = 15 WHERE sequence = -1",
    )
    found = await verdict(copy)
    assert found.broken is not None
    assert found.broken.sequence == 7


async def test_an_entry_that_was_edited_with_its_digest_is_named_by_the_one_behind_it(copy: Path) -> None:
    chain = links(copy)
    forged = link(entry(99), sequence=7, time_ms=chain[6].time_ms, previous=chain[5].digest)
    put(copy, [*chain[:6], forged, *chain[7:]])
    found = await verdict(copy)
    assert found.broken is not None
    assert found.broken.sequence == 7


async def test_only_anchors_know_that_the_end_was_cut_off(copy: Path) -> None:
    ends = links(copy)[-1]
    change(copy, "DELETE FROM audit WHERE sequence > 20")
    assert (await verdict(copy)).broken is None
    found = await verdict(copy, (Anchor(ends.sequence, ends.digest, 0),))
    assert found.broken is not None
    assert found.broken.sequence == 21
    change(copy, "DELETE FROM audit")
    found = await verdict(copy, (Anchor(ends.sequence, ends.digest, 0),))
    assert found.broken is not None
    assert found.broken.sequence == 1


async def test_only_anchors_know_that_the_log_was_written_anew(copy: Path) -> None:
    chain = links(copy)
    anchors = tuple(Anchor(each.sequence, each.digest, 0) for each in (chain[4], chain[11], chain[23]))
    found = await verdict(copy, anchors)
    assert (found.broken, found.anchors) == (None, 3)
    put(copy, again([*chain[:8], *chain[9:]], first=9))
    assert (await verdict(copy)).broken is None
    found = await verdict(copy, anchors)
    assert found.broken is not None
    assert (found.broken.sequence, found.anchors) == (12, 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_mutation_goes_unseen(data: st.DataObject, whole: Path, tmp_path: Path) -> None:
    """Whatever is done, with or without digests made anew: with an anchor of the end it is found, and not too late."""
    file = Path(shutil.copy(whole, tmp_path / "mutated.sqlite"))
    chain = links(file)
    place = data.draw(st.integers(1, ENTRIES), label="place")
    kind = data.draw(st.sampled_from(["edit", "delete", "swap", "insert", "truncate", "repeat"]), label="kind")
    is_chained_anew = data.draw(st.booleans(), label="chained anew")
    mutated = mutate(chain, kind, place, data)
    put(file, again(mutated, first=1) if is_chained_anew else mutated)
    ends = chain[-1]
    found = asyncio.run(verdict(file, (Anchor(ends.sequence, ends.digest, ends.time_ms),)))
    assert found.broken is not None
    if is_chained_anew:
        # Only the anchored entry can be compared: everything before it looks whole.
        assert place <= found.broken.sequence <= ENTRIES
    else:
        assert found.broken.sequence == place


def mutate(chain: list[Link], kind: str, place: int, data: st.DataObject) -> list[Link]:
    """A chain in which the entry at `place` is the first that is not what was written."""
    before, at, behind = chain[: place - 1], chain[place - 1], chain[place:]

    def numbered(wanted: list[Link], number: Callable[[int], int]) -> list[Link]:
        return [Link(number(each.sequence), each.time_ms, each.entry, each.previous, each.digest) for each in wanted]

    if kind == "edit":
        told = data.draw(st.text(max_size=8).filter(lambda text: text != at.entry.actor), label="actor")
        told = told.encode("utf-8", "ignore").decode()
        other = Entry("t", told, at.entry.action, at.entry.object, at.entry.decision, at.entry.details)
        return [*before, Link(at.sequence, at.time_ms, other, at.previous, at.digest), *behind]
    if kind == "delete":
        # Numbers made to fit, so that no gap tells.
        return [*before, *numbered(behind, lambda n: n - 1)]
    if kind == "swap" and behind:
        other_at = data.draw(st.integers(0, len(behind) - 1), label="with")
        other = behind[other_at]
        behind[other_at] = numbered([at], lambda _: other.sequence)[0]
        return [*before, numbered([other], lambda _: place)[0], *behind]
    if kind == "insert":
        strange = Link(place, at.time_ms, entry(99), at.previous, at.digest)
        return [*before, strange, *numbered([at, *behind], lambda n: n + 1)]
    if kind == "repeat" and place > 1:
        twice = numbered([before[-1]], lambda n: n + 1)
        return [*before, *twice, *numbered([at, *behind], lambda n: n + 1)]
    return before


async def test_many_writers_make_one_chain_without_a_gap(tmp_path: Path) -> None:
    each_of, writers = 25, 8
    several = [await opened(tmp_path / "records.sqlite") for _ in range(writers)]

    async def fill(number: int, records: Records) -> None:
        for n in range(each_of):
            await write(records, Entry("t", f"writer:{number}", "job.state", str(n)))

    await asyncio.gather(*(fill(number, records) for number, records in enumerate(several)))
    found = await verify(several[0])
    assert (found.entries, found.broken) == (writers * each_of, None)
    for records in several:
        await records.close()


async def test_what_is_undone_is_not_in_the_log(tmp_path: Path) -> None:
    records = await opened(tmp_path / "records.sqlite")

    def fails(connection: sa.Connection) -> None:
        append(connection, entry(1))
        raise KeyError("afterwards")

    with pytest.raises(KeyError):
        await records.write(fails)
    assert await head(records) is None
    assert (await records.read(lambda c: c.execute(sa.select(jobs)).all())) == []
    await records.close()


async def test_verifying_needs_the_memory_of_a_batch(tmp_path: Path) -> None:
    records = await opened(tmp_path / "records.sqlite")

    def fill(connection: sa.Connection, count: int) -> None:
        for number in range(count):
            append(connection, entry(number))

    peaks = []
    for _ in range(2):
        await records.write(lambda c: fill(c, 1500))
        await verify(records, rows=100)
        tracemalloc.start()
        await verify(records, rows=100)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
    await records.close()


@pytest.fixture
async def records(copy: Path) -> AsyncIterator[Records]:
    found = await opened(copy)
    yield found
    await found.close()


@pytest.fixture(params=["file", "store"])
def anchorage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FileAnchorage | StoreAnchorage]:
    if request.param == "file":
        yield FileAnchorage(tmp_path / "anchors.jsonl")
    else:
        yield StoreAnchorage(FolderStore(tmp_path / "objects"))


async def test_anchors_are_kept_and_hold(records: Records, anchorage: FileAnchorage | StoreAnchorage) -> None:
    first = await publish(records, [anchorage])
    assert await publish(records, [anchorage], known=first) == first
    await write(records, entry(1))
    second = await publish(records, [anchorage], known=first)
    assert [first, second] == list(await anchorage.all())
    found = await verify(records, await anchorage.all())
    assert (found.entries, found.anchors, found.broken) == (ENTRIES + 1, 2, None)


async def test_an_empty_log_has_no_head(tmp_path: Path) -> None:
    empty = await opened(tmp_path / "empty.sqlite")
    assert await publish(empty, [FileAnchorage(tmp_path / "anchors")]) is None
    assert not (tmp_path / "anchors").exists()
    await empty.close()


async def test_a_store_remembers_the_first_anchor_of_a_place(tmp_path: Path) -> None:
    place = StoreAnchorage(FolderStore(tmp_path / "objects"))
    await place.put(Anchor(7, "aa", 1))
    await place.put(Anchor(7, "aa", 1))
    with pytest.raises(AuditBroken):
        await place.put(Anchor(7, "bb", 1))


async def test_an_anchor_that_was_torn_off_costs_no_other(tmp_path: Path) -> None:
    file = tmp_path / "anchors"
    place = FileAnchorage(file)
    await place.put(Anchor(1, "aa", 1))
    file.write_bytes(file.read_bytes() + b'{"digest":"b')
    assert len(await place.all()) == 1
    await place.put(Anchor(3, "cc", 1))
    assert [each.sequence for each in await place.all()] == [1, 3]


@pytest.mark.parametrize("line", ["x", "[]", "{}", '{"sequence":"1","digest":"a","time_ms":1}', "7"])
async def test_a_file_that_holds_no_anchors_is_refused(line: str, tmp_path: Path) -> None:
    (tmp_path / "anchors").write_text(f"{line}\n")
    with pytest.raises(InvalidSpec):
        await FileAnchorage(tmp_path / "anchors").all()
    with pytest.raises(InvalidSpec):
        await FileAnchorage(tmp_path / "none").all()
    with pytest.raises(OutputUnwritable):
        await FileAnchorage(tmp_path / "none" / "x").put(Anchor(1, "a", 1))


async def test_anchoring_goes_on_by_itself_over_failures(records: Records, tmp_path: Path) -> None:
    place = FileAnchorage(tmp_path / "later" / "anchors")
    anchoring = Anchoring(records, anchorages(str(tmp_path / "later" / "anchors"), FolderStore(tmp_path)), pause_s=0.02)
    anchoring.start()
    await asyncio.sleep(0.1)
    (tmp_path / "later").mkdir()
    for _ in range(200):
        await asyncio.sleep(0.02)
        if (tmp_path / "later" / "anchors").exists() and len(await place.all()) == 1:
            break
    await write(records, entry(1))
    for _ in range(200):
        await asyncio.sleep(0.02)
        if len(await place.all()) == 2:
            break
    assert [each.sequence for each in await place.all()] == [ENTRIES, ENTRIES + 1]
    await anchoring.stop()


async def test_without_a_place_nothing_is_anchored(records: Records, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "objects")
    anchoring = Anchoring(records, anchorages("", store), pause_s=0.01)
    anchoring.start()
    await anchoring.stop()
    (place,) = anchorages("store", store)
    assert isinstance(place, StoreAnchorage)


async def test_an_export_proves_what_the_table_proves(records: Records) -> None:
    told = [json.loads(line) async for line in lines(records)]
    assert len(told) == ENTRIES
    previous = GENESIS
    for row in told:
        names = ("tenant", "actor", "action", "object", "decision")
        made = Entry(*(row[name] for name in names), json.loads(row["details"]))
        assert digest_of(made, row["sequence"], row["time_ms"], previous) == row["digest"]
        previous = row["digest"]
    assert set(told[0]) == {column.name for column in audit.columns}


def test_entries_differ_in_every_field() -> None:
    chance = random.Random(1)
    base = ("t", "a", "x", "o", "done")
    seen = {digest_of(Entry(*base), 1, 1, GENESIS)}
    for place in range(5):
        other = [*base]
        other[place] = str(chance.random())
        seen.add(digest_of(Entry(*other), 1, 1, GENESIS))
    # What moves from one field to the next is not the same.
    seen.add(digest_of(Entry("ta", "", "x", "o", "done"), 1, 1, GENESIS))
    seen |= {digest_of(Entry(*base), 2, 1, GENESIS), digest_of(Entry(*base), 1, 2, GENESIS)}
    seen |= {digest_of(Entry(*base), 1, 1, "1"), digest_of(Entry(*base, {"k": 1}), 1, 1, GENESIS)}
    assert len(seen) == 11
