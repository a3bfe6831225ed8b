"""What all errors have in common: a reason, fields, and a text made from the one table."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from services.common.error_table import TABLE, Explanation

Field: TypeAlias = str | int | float | os.PathLike[str] | None


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that is wrong, by its path in the message, and what is wrong with it."""

    field: str
    problem: str


class MasqueradeError(Exception):
    """An error with a stable reason.

    Attributes:
        reason: the name of the enum value in errors.proto without `REASON_`.
        fields: what the error knows, as text; None given to the constructor means "not known".
        violations: paths of the request that are wrong; they become google.rpc.BadRequest.
        remedy: what to do; the table's unless the place that raised knew better.
    """

    reason: ClassVar[str] = "INTERNAL"

    def __init__(self, *, remedy: str | None = None, violations: Sequence[Violation] = (), **fields: Field) -> None:
        self.fields: dict[str, str] = {name: _text(value) for name, value in fields.items() if value is not None}
        self.violations = tuple(violations)
        self._own_remedy = remedy
        super().__init__(self.message())

    @property
    def explanation(self) -> Explanation:
        """The table's row for this reason."""
        return TABLE[self.reason]

    @property
    def own_remedy(self) -> str | None:
        """The remedy given by the place that raised, if it gave one."""
        return self._own_remedy

    @property
    def remedy(self) -> str:
        """What the reader can do about it."""
        return self._own_remedy or self.explanation.remedy

    @property
    def exit_code(self) -> int:
        """Exit status of a command that ends with this error."""
        return int(self.explanation.exit)

    def text(self) -> str:
        """What is wrong, as a sentence without its remedy."""
        return fill(self.explanation.text, self.fields, self.violations)

    def message(self) -> str:
        """What is wrong and what to do."""
        return f"{self.text()}: {self.remedy}"

    def __str__(self) -> str:
        return self.message()

    def __reduce__(self) -> tuple[Any, ...]:
        # The durable engine pickles errors; keyword-only constructors do not survive the default way.
        return _again, (type(self), self.fields, self._own_remedy, self.violations)


def _again(
    error_class: type[MasqueradeError],
    fields: dict[str, Any],
    remedy: str | None,
    violations: Sequence[Violation],
) -> MasqueradeError:
    return error_class(remedy=remedy, violations=violations, **fields)


def _text(value: str | int | float | os.PathLike[str]) -> str:
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)


_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
_NAMES = re.compile(r"\{(\w+)(?:\|([^}]*))?\}")


def fill(template: str, fields: Mapping[str, str], violations: Sequence[Violation] = ()) -> str:
    """Put fields into a text of the table.

    `{name|words}` is the field or else the words; bracketed parts whose field is missing are left out;
    fields that the text does not mention follow at its end, so that nothing an error knows is lost to the reader.
    """

    def keep_or_drop(match: re.Match[str]) -> str:
        part = match.group(1)
        return part if all(name in fields for name, _ in _NAMES.findall(part)) else ""

    mentioned = {name for name, _ in _NAMES.findall(template)}
    sentence = _NAMES.sub(lambda m: fields.get(m.group(1), m.group(2)), _OPTIONAL.sub(keep_or_drop, template))
    # By name: on the way over a wire fields lose their order, and an error must read the same at both ends.
    rest = [f"{name} {value}" for name, value in sorted(fields.items()) if name not in mentioned]
    rest += [f"{v.field}: {v.problem}" for v in violations]
    return f"{sentence} ({'; '.join(rest)})" if rest else sentence
