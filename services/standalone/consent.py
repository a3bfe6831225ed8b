"""Whose face it is and who agreed: asked once a picture, remembered by the picture's digest."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.common.errors import ConsentRequired, InvalidSpec

SELF, ATTESTED, SYNTHETIC = "self", "attested", "synthetic"
FORMS = "--consent self, or --consent attested:TEXT with the words that were agreed to"
STATEMENT_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Consent:
    """By which consent a face is used; the statement is what was attested."""

    method: str
    statement: str = ""


DRAWN = Consent(SYNTHETIC)
"""Of a face that nobody has."""

Ask = Callable[[str], Consent]
"""Asks a person about one picture, by its name."""


def parse_consent(text: str) -> Consent:
    """What `--consent` says.

    Raises:
        InvalidSpec: it is neither of the two forms.
    """
    method, colon, statement = text.partition(":")
    if method == SELF and not colon:
        return Consent(SELF)
    if method == ATTESTED and statement.strip():
        return Consent(ATTESTED, statement.strip()[:STATEMENT_CHARACTERS])
    raise InvalidSpec(field="--consent", problem=f"{text[:80]!r} is neither self nor attested:TEXT", remedy=FORMS)


class Consents:
    """Answers that were given before, in a file of the data folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def settle(self, portrait: str, digest: str, *, given: Consent | None, ask: Ask | None) -> Consent:
        """By which consent a picture is used: as given now, as remembered, or as answered to a question.

        Args:
            portrait: what people call the picture.
            digest: SHA-256 of its bytes, as hexadecimal digits.
            given: from the command line.
            ask: None where nobody can be asked.

        Raises:
            ConsentRequired: nobody said.
        """
        remembered = self._read().get(digest)
        if given is None and remembered is not None:
            return Consent(remembered["method"], remembered.get("statement", ""))
        if given is None and ask is None:
            raise ConsentRequired(portrait=portrait, remedy=f"ask the person, then say {FORMS}")
        answer = given or (ask(portrait) if ask else None)
        assert answer is not None
        self._remember(digest, answer)
        return answer

    def _read(self) -> Mapping[str, dict[str, str]]:
        try:
            answers = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (ValueError, OSError):
            # An answer that cannot be read was not given: it is asked for again.
            return {}
        known = answers.items() if isinstance(answers, dict) else ()
        return {digest: each for digest, each in known if isinstance(each, dict) and each.get("method") in _METHODS}

    def _remember(self, digest: str, answer: Consent) -> None:
        """The file appears whole or stays as it was."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        answers = {**self._read(), digest: {"method": answer.method, "statement": answer.statement}}
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=".consents-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(answers, file, indent=2, sort_keys=True, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()


_METHODS = (SELF, ATTESTED)
