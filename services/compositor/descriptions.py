"""What a file says of itself beside its streams: chapters, tags, attachments."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from services.compositor.carriage import Container

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from av.container import InputContainer, OutputContainer

    from services.compositor.remarks import Remarks
    from services.compositor.timetable import Piece

_MILLISECOND = Fraction(1, 1000)

# What the MP4 muxer has a place for; anything else it drops without a word.
_MP4_TAGS = frozenset(
    {"title", "artist", "album", "album_artist", "comment", "description", "copyright", "date", "genre", "synopsis"}
)

# Written by the muxer for its own file: copied, they would speak of the source's.
_NOT_COPIED = frozenset({"major_brand", "minor_version", "compatible_brands", "encoder", "duration"})


def chapters(
    source: Sequence[Mapping[str, Any]], *, pieces: Sequence[Piece], tick: Fraction, offset: Fraction
) -> list[dict[str, Any]]:
    """The source's chapters in the output's time; with cuts each is clipped to what stays of it, or left out."""
    found: list[dict[str, Any]] = []
    for chapter in source:
        base = Fraction(chapter["time_base"] or _MILLISECOND)
        start, end = chapter["start"] * base, chapter["end"] * base
        placed = _placed(start, end, pieces, tick) if pieces else (start - offset, end - offset)
        if placed is None or placed[1] <= max(0, placed[0]):
            continue
        scale = _MILLISECOND if pieces else base
        found.append(
            {
                "id": chapter["id"],
                "start": max(0, round(placed[0] / scale)),
                "end": round(placed[1] / scale),
                "time_base": scale,
                "metadata": dict(chapter["metadata"]),
            }
        )
    return found


def _placed(
    start: Fraction, end: Fraction, pieces: Sequence[Piece], tick: Fraction
) -> tuple[Fraction, Fraction] | None:
    reached = []
    for piece in pieces:
        first, last = max(start, piece.start * tick), min(end, piece.end * tick)
        if first < last:
            move = (piece.base - piece.start) * tick
            reached.append((first + move, last + move))
    return (reached[0][0], reached[-1][1]) if reached else None


def tags(source: Mapping[str, str], own: Mapping[str, str], container: Container) -> dict[str, str]:
    """The source's tags and ours. Where both speak, ours comes first and the source's follows on its own line."""
    merged = {key: value for key, value in source.items() if key.lower() not in _NOT_COPIED}
    said = dict(own)
    if container.is_mp4:
        homeless = {key: said.pop(key) for key in own if key not in _MP4_TAGS}
        lines = [said.get("comment", ""), *(f"{key}: {value}" for key, value in homeless.items())]
        if homeless:
            said["comment"] = "\n".join(line for line in lines if line)
    for key, value in said.items():
        merged[key] = f"{value}\n{merged[key]}" if merged.get(key) else value
    return merged


def copy_attachments(source: InputContainer, output: OutputContainer, container: Container, remarks: Remarks) -> None:
    """Fonts and the like, which only Matroska holds."""
    attachments = source.streams.attachments
    if not attachments:
        return
    if container is not Container.MKV:
        remarks.add(f"{len(attachments)} attachments cannot be kept in {container.suffix} and are left out")
        return
    for attachment in attachments:
        name = attachment.metadata.get("filename", f"attachment {attachment.index}")
        output.add_attachment(name, attachment.mimetype or "application/octet-stream", attachment.data)
