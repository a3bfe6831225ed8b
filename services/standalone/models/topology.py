"""How the face mesh's landmarks are joined, read out of MediaPipe's own source.

The file is parsed as text and never run.
"""

from __future__ import annotations

import json
import re

_PAIR = re.compile(r"\((\d+),\s*(\d+)\)")
_TRIANGLES = 852


def convert_topology(content: bytes) -> bytes:
    """The triangles and the rim of the face mesh as JSON.

    FACEMESH_TESSELATION lists each triangle as three consecutive edges that close; the eyes and the mouth stay open.

    Args:
        content: `face_mesh_connections.py`.

    Returns:
        UTF-8 JSON: `triangles` [852][3], `oval` [36] in order round the face; the same bytes each time.

    Raises:
        ValueError: the text is built otherwise.
    """
    text = content.decode()
    edges = _edges(text, "FACEMESH_TESSELATION")
    triangles = [_closed(edges[first : first + 3]) for first in range(0, len(edges), 3)]
    if len(triangles) != _TRIANGLES:
        raise ValueError(f"{len(triangles)} triangles in place of {_TRIANGLES}")
    document = {"triangles": triangles, "oval": _ring(_edges(text, "FACEMESH_FACE_OVAL"))}
    return (json.dumps(document, separators=(",", ":")) + "\n").encode()


def _edges(text: str, name: str) -> list[tuple[int, int]]:
    found = re.search(rf"{name} = frozenset\(\[(.*?)\]\)", text, re.DOTALL)
    if found is None:
        raise ValueError(f"no {name}")
    return [(int(first), int(second)) for first, second in _PAIR.findall(found.group(1))]


def _closed(edges: list[tuple[int, int]]) -> list[int]:
    if len(edges) != 3 or any(edges[side][1] != edges[(side + 1) % 3][0] for side in range(3)):
        raise ValueError(f"{edges} is no triangle")
    return [first for first, _ in edges]


def _ring(edges: list[tuple[int, int]]) -> list[int]:
    """The points of edges that follow one another and end where they began."""
    for place, (_, end) in enumerate(edges):
        if end != edges[(place + 1) % len(edges)][0]:
            raise ValueError("the rim is no ring")
    return [first for first, _ in edges]
