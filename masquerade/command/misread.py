"""Something that a person typed and that cannot be read."""

from __future__ import annotations


class Misread(ValueError):
    """What was typed, where, what is wrong with it and how it is written.

    Attributes:
        field: the option.
        problem: what is wrong.
        remedy: how it is written.
    """

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        self.field = field
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{field}: {problem}")
