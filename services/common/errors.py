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

__all__ = ["Code", "Exit", "Field", "MasqueradeError", "Violation", "from_reason", "exit_code_of"]


class NotAVideo(MasqueradeError):
    """The bytes are no container that we read, whatever the file is called."""

    reason = "NOT_A_VIDEO"


class CorruptMedia(MasqueradeError):
    """The container is one of ours, its content cannot be decoded."""

    reason = "CORRUPT_MEDIA"


class TruncatedMedia(MasqueradeError):
    """The file stops in the middle."""

    reason = "TRUNCATED_MEDIA"


class NoVideoStream(MasqueradeError):
    """A media file without a picture."""

    reason = "NO_VIDEO_STREAM"


class NoVideoFrames(MasqueradeError):
    """A video stream from which not one frame comes."""

    reason = "NO_VIDEO_FRAMES"


class FormatRefused(MasqueradeError):
    """A format that could make us read other files: playlists, concat scripts."""

    reason = "FORMAT_REFUSED"


class MediaLimitExceeded(MasqueradeError):
    """Too long, too large, too many streams or frames."""

    reason = "MEDIA_LIMIT_EXCEEDED"


class MediaTooSmall(MasqueradeError):
    """A picture too small to be worked on."""

    reason = "MEDIA_TOO_SMALL"


class EncryptedMedia(MasqueradeError):
    """A video behind copy protection."""

    reason = "ENCRYPTED_MEDIA"


class HdrUnsupported(MasqueradeError):
    """PQ or HLG."""

    reason = "HDR_UNSUPPORTED"


class DisplayMatrixUnsupported(MasqueradeError):
    """A rotation that is no multiple of 90 degrees, or a shear."""

    reason = "DISPLAY_MATRIX_UNSUPPORTED"


class RangeOutsideVideo(MasqueradeError):
    """A range of `keep` or `apply` that holds no frame."""

    reason = "RANGE_OUTSIDE_VIDEO"


class NotAnImage(MasqueradeError):
    """The bytes are no picture that we read."""

    reason = "NOT_AN_IMAGE"


class ImageLimitExceeded(MasqueradeError):
    """A picture with too many pixels, bytes or frames."""

    reason = "IMAGE_LIMIT_EXCEEDED"


class NoFaceInPortrait(MasqueradeError):
    """Nobody to be seen in a portrait."""

    reason = "NO_FACE_IN_PORTRAIT"


class SeveralFacesInPortrait(MasqueradeError):
    """A portrait must not leave a choice."""

    reason = "SEVERAL_FACES_IN_PORTRAIT"


class FaceTooSmall(MasqueradeError):
    """Too few pixels to take a face from."""

    reason = "FACE_TOO_SMALL"


class FaceTurned(MasqueradeError):
    """Half a face is not to be seen."""

    reason = "FACE_TURNED"


class FaceCovered(MasqueradeError):
    """Something is in front of the face."""

    reason = "FACE_COVERED"


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
