"""What a reason means: its status code, its exit code, its text and its remedy; the words the error tables are made of.

Nothing here imports gRPC: decode children load this module and must start in milliseconds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Code(enum.IntEnum):
    """Canonical status codes, the numbers of google.rpc.Code."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Exit(enum.IntEnum):
    """What the command's exit status says."""

    DONE = 0
    FAULT = 1
    REFUSED = 2
    DEPENDENCY_ABSENT = 3
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a reason means to gRPC, to a shell and to a person."""

    code: Code
    exit: Exit
    text: str
    remedy: str


def refused(text: str, remedy: str, code: Code = Code.INVALID_ARGUMENT) -> Explanation:
    """Bad input, or something that may not be."""
    return Explanation(code, Exit.REFUSED, text, remedy)


def absent(text: str, remedy: str, code: Code = Code.FAILED_PRECONDITION) -> Explanation:
    """Something that is needed is not there."""
    return Explanation(code, Exit.DEPENDENCY_ABSENT, text, remedy)


def fault(text: str, remedy: str, code: Code = Code.INTERNAL) -> Explanation:
    """A fault of ours."""
    return Explanation(code, Exit.FAULT, text, remedy)
