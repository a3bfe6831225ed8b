"""Fetching a file from its publisher's own address, by digest; what was fetched stays fetched."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from services.common.errors import ModelDigestMismatch, RegistryUnreachable
from services.common.store.objects import digest_of_file
from services.standalone.models.wheel import BytesDone

_SCHEMES = ("https",)
"""A digest guards the content; an address without TLS would still tell everybody on the way what is fetched."""

_TIMEOUT_S = 30.0
_CHUNK = 1 << 20
_PARTIAL_CONTENT = 206


def fetch_file(url: str, *, sha256: str, model: str, cache: Path, progress: BytesDone) -> Path:
    """The file in `cache`, fetched if it is not there already; a fetch that broke off goes on where it stopped.

    Raises:
        RegistryUnreachable: the publisher does not answer.
        ModelDigestMismatch: the publisher offers other bytes by now.
    """
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / f"{sha256}{Path(urlsplit(url).path).suffix}"
    if kept.is_file() and digest_of_file(kept) == sha256:
        return kept
    partial = kept.with_suffix(".part")
    _download(url, partial, model=model, progress=progress)
    found = digest_of_file(partial)
    if found != sha256:
        # Kept, it would be taken for the beginning of the right file for ever.
        partial.unlink()
        raise ModelDigestMismatch(model=model, found=found, expected=sha256)
    partial.replace(kept)
    return kept


def _download(url: str, partial: Path, *, model: str, progress: BytesDone) -> None:
    address = urlsplit(url)
    if address.scheme not in _SCHEMES:
        raise RegistryUnreachable(model=model, host=address.hostname, detail=f"{address.scheme} addresses are not used")
    have = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            goes_on = response.status == _PARTIAL_CONTENT
            done = have if goes_on else 0
            total = done + int(response.headers.get("Content-Length") or 0)
            with partial.open("ab" if goes_on else "wb") as file:
                while chunk := response.read(_CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    progress(done, max(done, total))
            if done < total:
                raise RegistryUnreachable(model=model, host=address.hostname, detail=f"broke off after {done} bytes")
    except urllib.error.HTTPError as refusal:
        with refusal:
            if refusal.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # all of it is here; its digest is looked at next
            raise RegistryUnreachable(model=model, host=address.hostname, detail=str(refusal)) from refusal
    except (OSError, http.client.HTTPException) as problem:
        raise RegistryUnreachable(
            model=model,
            host=address.hostname,
            detail=str(problem),
            remedy="check the network and run `masquerade models pull` again: it goes on where it stopped",
        ) from problem
