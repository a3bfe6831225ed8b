"""Everything that can go wrong, as one class per reason.

An error carries fields, not a formatted string: the text is made in the one table (`error_table.py`), for people; the
reason is for programs. Raise it where it is known, catch it where it can be mended, let it rise otherwise: at a door
of a service it becomes a status (`status.py`), at the peer the same class again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.common.error_base import Field, MasqueradeError, Violation
from services.common.error_table import Code, Exit
from services.common.errors_callers import *  # noqa: F403
from services.common.errors_media import *  # noqa: F403

__all__ = ["Code", "Exit", "Field", "MasqueradeError", "Violation", "from_reason", "exit_code_of"]


class InvalidSpec(MasqueradeError):
    """A request that contradicts the contract; name the field and the problem, or give violations."""

    reason = "INVALID_SPEC"


class UnknownEngine(MasqueradeError):
    """A swap engine that is not registered."""

    reason = "UNKNOWN_ENGINE"


class UnknownProfile(MasqueradeError):
    """A profile that does not exist."""

    reason = "UNKNOWN_PROFILE"


class UnknownModel(MasqueradeError):
    """A model without a folder in the model repository."""

    reason = "UNKNOWN_MODEL"


class LicenceForbidden(MasqueradeError):
    """The model's licence forbids what the policy stands for."""

    reason = "LICENCE_FORBIDDEN"


class ConsentRequired(MasqueradeError):
    """Nobody said that the person agrees."""

    reason = "CONSENT_REQUIRED"


class NoIdentity(MasqueradeError):
    """A swap without a face to put on."""

    reason = "NO_IDENTITY"


class UnknownSetting(MasqueradeError):
    """A setting nobody reads; a silent typo would be worse."""

    reason = "UNKNOWN_SETTING"


class InvalidSetting(MasqueradeError):
    """A setting whose value does not fit."""

    reason = "INVALID_SETTING"


class JobNotFound(MasqueradeError):
    """No such job for this tenant."""

    reason = "JOB_NOT_FOUND"


class IdentityNotFound(MasqueradeError):
    """No such identity for this tenant."""

    reason = "IDENTITY_NOT_FOUND"


class OutputUnwritable(MasqueradeError):
    """The output cannot be written where it was asked for."""

    reason = "OUTPUT_UNWRITABLE"


class OutputExists(MasqueradeError):
    """The output is there already and nobody said to replace it."""

    reason = "OUTPUT_EXISTS"


class InputMissing(MasqueradeError):
    """An input file that is not there or may not be read."""

    reason = "INPUT_MISSING"


class NoSpace(MasqueradeError):
    """The disk is full."""

    reason = "NO_SPACE"


class DataFolderBusy(MasqueradeError):
    """Another process owns the data folder."""

    reason = "DATA_FOLDER_BUSY"


class ModelMissing(MasqueradeError):
    """Weights that were not pulled."""

    reason = "MODEL_MISSING"


class ModelDigestMismatch(MasqueradeError):
    """Weights that are not the promised bytes."""

    reason = "MODEL_DIGEST_MISMATCH"


class ModelContractMismatch(MasqueradeError):
    """A model whose inputs or outputs are not what its contract says."""

    reason = "MODEL_CONTRACT_MISMATCH"


class RuntimeUnavailable(MasqueradeError):
    """A runtime was named and is not there."""

    reason = "RUNTIME_UNAVAILABLE"


class RegistryUnreachable(MasqueradeError):
    """The place models come from does not answer."""

    reason = "REGISTRY_UNREACHABLE"


class DependencyMissing(MasqueradeError):
    """A package or program that is needed for this is not installed."""

    reason = "DEPENDENCY_MISSING"


class ObjectMissing(MasqueradeError):
    """No object under this key."""

    reason = "OBJECT_MISSING"


class ObjectCorrupt(MasqueradeError):
    """The stored bytes are not those that were written, or another content is under the key."""

    reason = "OBJECT_CORRUPT"


class LaneRefused(MasqueradeError):
    """No shared memory between the two ends."""

    reason = "LANE_REFUSED"


class RingFull(MasqueradeError):
    """More frames in flight than the ring holds."""

    reason = "RING_FULL"


class LeaseExpired(MasqueradeError):
    """A slot whose generation has moved on."""

    reason = "LEASE_EXPIRED"


class FrameBatchInvalid(MasqueradeError):
    """A FrameBatch or ImageSet whose parts do not agree."""

    reason = "FRAME_BATCH_INVALID"


class AnswerMismatch(MasqueradeError):
    """Asked is not answered."""

    reason = "ANSWER_MISMATCH"


class DecoderDied(MasqueradeError):
    """A child that worked on hostile bytes crashed; only the child."""

    reason = "DECODER_DIED"


class DecodeTimeout(MasqueradeError):
    """A child that worked on hostile bytes was stopped by the clock."""

    reason = "DECODE_TIMEOUT"


class EncoderFailed(MasqueradeError):
    """The encoder gave up."""

    reason = "ENCODER_FAILED"


class VerifyFailed(MasqueradeError):
    """The finished file is not what the plan promised."""

    reason = "VERIFY_FAILED"


class Cancelled(MasqueradeError):
    """Somebody asked to stop."""

    reason = "CANCELLED"


class DeadlineExceeded(MasqueradeError):
    """The caller's time is over."""

    reason = "DEADLINE_EXCEEDED"


class Overloaded(MasqueradeError):
    """More work than may wait; comes with a time after which to try again (`retry_after_s`)."""

    reason = "OVERLOADED"


class Unavailable(MasqueradeError):
    """A peer that cannot be reached or is stopping."""

    reason = "UNAVAILABLE"


class Internal(MasqueradeError):
    """A fault of ours; the details stand in the log, not in the answer."""

    reason = "INTERNAL"


class LinkRefused(MasqueradeError):
    """A link that leads where we do not go: another scheme, a private address, a page without a video."""

    reason = "LINK_REFUSED"


class LinkUnreachable(MasqueradeError):
    """A link behind which nobody answers, or not with the file."""

    reason = "LINK_UNREACHABLE"


BY_REASON: dict[str, type[MasqueradeError]] = {cls.reason: cls for cls in MasqueradeError.__subclasses__()}
"""Reason without its REASON_ prefix, to its class."""


def from_reason(
    reason: str,
    fields: Mapping[str, Field],
    *,
    remedy: str | None = None,
    violations: Sequence[Violation] = (),
) -> MasqueradeError:
    """The error of a reason that came over a wire; a reason this version does not know is an Internal that names it."""
    error_class = BY_REASON.get(reason)
    if error_class is None:
        return Internal(remedy=remedy, violations=violations, peer_reason=reason, **_plain(fields))
    return error_class(remedy=remedy, violations=violations, **_plain(fields))


def _plain(fields: Mapping[str, Field]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in {"remedy", "violations", "peer_reason"}}


def exit_code_of(error: BaseException) -> int:
    """Exit status for any exception: typed errors know theirs, an interrupt is 130, the rest is our fault."""
    if isinstance(error, MasqueradeError):
        return error.exit_code
    return 130 if isinstance(error, KeyboardInterrupt) else 1
