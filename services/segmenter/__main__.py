"""`python -m services.segmenter`: the segmenter alone in a process."""

from __future__ import annotations

from services.segmenter.app import main

main()
