"""What a caller asks for when a face is to be enrolled, and all that can be wrong with it before it is looked at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from masquerade.identity import MAX_PICTURES
from services.common.errors import ConsentRequired, InvalidSpec, Violation
from services.orchestrator.consents import Attestation
from services.orchestrator.keys import json_digest

MOST_CHARACTERS = 200
"""Of a name, a request id, or who attested."""

MOST_STATEMENT_CHARACTERS = 1000
MOST_SCOPES = 16

_SCOPE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ASSET = re.compile(r"asset_[a-z0-9]{1,34}")


@dataclass(frozen=True, slots=True)
class IdentityRequest:
    """Portraits to enrol."""

    name: str
    asset_ids: tuple[str, ...]
    consent: Attestation
    """Its method is empty if nobody said; its `attested_by`, if it is the caller."""

    request_id: str = ""
    landmarks_asset_id: str = ""
    """Of a drawn portrait; empty for pictures of people."""

    @property
    def is_drawn(self) -> bool:
        """Whether the landmarks are given."""
        return bool(self.landmarks_asset_id)

    @property
    def digest(self) -> str:
        """Of the content, without the id of the request: the same id with another digest is another request."""
        return json_digest(asdict(replace(self, request_id="")))

    def check(self) -> None:
        """Say everything that is wrong at once, but for what depends on the time.

        Raises:
            ConsentRequired: nobody said by which consent the face is used; with whatever else is wrong.
            InvalidSpec: with one violation for each field that is wrong.
        """
        found = [Violation(path, problem) for path, problem in (*self._own_problems(), *self._consent_problems())]
        if found and not self.consent.method:
            raise ConsentRequired(violations=found)
        if found:
            raise InvalidSpec(violations=found)

    def check_time(self, now_ms: int) -> None:
        """An end of the consent that has passed before it began is a mistake.

        Raises:
            InvalidSpec: it has.
        """
        if self.consent.expires_ms is not None and self.consent.expires_ms <= now_ms:
            raise InvalidSpec(violations=[Violation("consent.expire_time", "is over already")])

    def _own_problems(self) -> Iterator[tuple[str, str]]:
        for path, text in (("name", self.name), ("request_id", self.request_id)):
            yield from _text_problems(path, text, MOST_CHARACTERS)
        if not 1 <= len(self.asset_ids) <= MAX_PICTURES:
            yield "asset_ids", f"{len(self.asset_ids)} portraits; 1 to {MAX_PICTURES} are needed"
        for number, asset in enumerate(self.asset_ids):
            if self.asset_ids.index(asset) != number:
                yield f"asset_ids[{number}]", "is there twice"
            if not _ASSET.fullmatch(asset):
                yield f"asset_ids[{number}]", "is no id of an asset"
        if self.is_drawn and not _ASSET.fullmatch(self.landmarks_asset_id):
            yield "landmarks_asset_id", "is no id of an asset"
        if self.is_drawn and len(self.asset_ids) > 1:
            yield "landmarks_asset_id", "a drawn face has exactly one portrait"

    def _consent_problems(self) -> Iterator[tuple[str, str]]:
        consent = self.consent
        if not consent.method:
            yield "consent.method", "nobody said by which consent it is used"
        if consent.method == "attested" and not consent.statement.strip():
            yield "consent.statement", "attested consent needs the words that were attested"
        if consent.method == "synthetic" and not self.is_drawn:
            yield "consent.method", "synthetic is for drawn faces, whose landmarks are given"
        yield from _text_problems("consent.statement", consent.statement, MOST_STATEMENT_CHARACTERS)
        yield from _text_problems("consent.attested_by", consent.attested_by, MOST_CHARACTERS)
        if len(consent.scopes) > MOST_SCOPES:
            yield "consent.scopes", f"{len(consent.scopes)} uses; at most {MOST_SCOPES}"
        for number, scope in enumerate(consent.scopes):
            if not _SCOPE.fullmatch(scope):
                yield f"consent.scopes[{number}]", "is no plain name in small letters"


def _text_problems(path: str, text: str, most: int) -> Iterator[tuple[str, str]]:
    if len(text) > most:
        yield path, f"{len(text)} characters; at most {most}"
    if "\0" in text:
        yield path, "holds a character that no text has"
