"""How a command ends: an error as one line on standard error, an exit status that says whose fault it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

from masquerade.command.misread import Misread

DONE, FAULT, REFUSED, ABSENT, INTERRUPTED = 0, 1, 2, 3, 130

FAULTS: Final = frozenset(
    {
        *("INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "OVERLOADED", "VERIFY_FAILED", "ENCODER_FAILED"),
        *("DECODER_DIED", "DECODE_TIMEOUT", "ANSWER_MISMATCH", "OBJECT_CORRUPT", "LANE_REFUSED", "RING_FULL"),
        *("LEASE_EXPIRED", "PUBLISH_FAILED", "AUDIT_BROKEN", "UNKNOWN", "UNIMPLEMENTED", "DATA_LOSS"),
    }
)
"""Reasons that are not the caller's doing. A test compares them with the server's table."""

ABSENCES: Final = frozenset({"MODEL_MISSING", "MODEL_CONTRACT_MISMATCH", "REGISTRY_UNREACHABLE", "DEPENDENCY_MISSING"})
"""Reasons that name something to install."""


def exit_code(reason: str) -> int:
    """Exit status of a command that ends with an error of this reason."""
    if reason == "CANCELLED":
        return INTERRUPTED
    if reason in ABSENCES:
        return ABSENT
    return FAULT if reason in FAULTS else REFUSED


@contextmanager
def told_in_a_line(*, left: str = "the same command again goes on") -> Iterator[None]:
    """Errors of the mesh, of the command line, and interrupts below end the process in one line.

    Args:
        left: what an interrupted command has left behind.
    """
    # Imported here: `--help` does not wait for gRPC.
    from masquerade.client import ClientError

    try:
        yield
    except ClientError as error:
        text, remedy = error.text, error.remedy
        if error.reason == "UNAVAILABLE" and not error.fields:
            text = f"the mesh does not answer ({error.text})"
            remedy = remedy or "look at --endpoint or MASQUERADE_ENDPOINT; `masquerade up` starts one here"
        said = [f"{each.field}: {each.problem}" for each in error.violations if each.field not in text]
        leave(error.reason, "; ".join([text, *said]), remedy, exit_code(error.reason))
    except Misread as error:
        leave("INVALID_SPEC", f"{error.field}: {error.problem}", error.remedy, REFUSED)
    except KeyboardInterrupt:
        leave("CANCELLED", "it was interrupted", left, INTERRUPTED)


def leave(reason: str, text: str, remedy: str, code: int) -> NoReturn:
    """Say why in one line, and exit."""
    stop = "" if text.endswith((".", "?", "!")) else "."
    print(" ".join(f"{reason}: {text}{stop} {remedy}".split()), file=sys.stderr, flush=True)
    sys.exit(code)
