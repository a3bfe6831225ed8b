"""What can be wrong with a video or a portrait, as one class per reason."""

from __future__ import annotations

from services.common.error_base import MasqueradeError


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
