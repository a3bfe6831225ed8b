"""`masquerade keys`: what it prints, what it leaves behind, and that it works beside whoever owns the data folder."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from services.common import errors
from services.common.secret import read_or_make_secret
from services.standalone.cli.keys import keys
from services.standalone.data_folder import DataFolder
from tests.contract.toy import ask
from tests.support import callers


def command(data: Path, *words: str) -> Result:
    return CliRunner().invoke(keys, [*words, "--data", str(data)])


def test_a_new_key_is_printed_once_and_alone(tmp_path: Path) -> None:
    made = command(tmp_path, "add", "--tenant", "studio", "--name", "ci")
    assert made.exit_code == 0
    text = made.stdout.strip()
    assert text.startswith("msq_")
    assert "\n" not in text
    listed = command(tmp_path, "list")
    assert text[4:30] in listed.stdout
    assert text not in listed.stdout
    assert text[31:] not in listed.stdout


def test_programs_read_json(tmp_path: Path) -> None:
    made = json.loads(command(tmp_path, "add", "--tenant", "studio", "--expires-days", "2", "--json").stdout)
    (listed,) = json.loads(command(tmp_path, "list", "--json").stdout)
    text = made.pop("key")
    assert made == listed
    assert text[4:30] == made["id"][4:]
    assert (made["tenant"], made["state"]) == ("studio", "active")
    assert made["expires"] > made["created"]
    ended = json.loads(command(tmp_path, "revoke", made["id"], "--json").stdout)
    assert ended["state"] == "revoked"
    assert json.loads(command(tmp_path, "list", "--tenant", "other", "--json").stdout) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("add", "--tenant", "../x"), "tenant"),
        (("revoke", "key_x"), "no key has this id"),
    ],
)
def test_what_cannot_be_done_is_refused_with_two(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    ended = command(tmp_path, *words)
    assert ended.exit_code == 2
    assert said in ended.stderr


async def beside(data: Path, *words: str) -> str:
    """What the command says as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.standalone", "keys", *words, "--data", str(data)),
        cwd=Path(__file__).resolve().parents[3],
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    return said.decode()


async def test_keys_are_made_and_revoked_beside_a_running_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DataFolder(tmp_path):
        monkeypatch.setattr(callers, "SECRET", read_or_make_secret(tmp_path))
        async with callers.public_toy(tmp_path, keys_cached_s=0) as door:
            key = json.loads(await beside(tmp_path, "add", "--tenant", "studio", "--json"))
            shown = callers.bearer(key["key"])
            assert await ask(door.channel, "Unary", b"x", metadata=shown) == b"x"
            await beside(tmp_path, "revoke", key["id"])
            with pytest.raises(errors.Unauthenticated, match="revoked"):
                await ask(door.channel, "Unary", b"x", metadata=shown)
