"""Writes docs/errors.md from the table: `python -m services.common.errors_doc [PATH]`; a test diffs it."""

from __future__ import annotations

import sys
from pathlib import Path

from services.common.error_table import TABLE, Explanation
from services.common.errors import BY_REASON

HEAD = """\
# Errors
Made from the table in `services/common/error_table.py` by `python -m services.common.errors_doc`; do not edit.

Every refusal and every fault has a stable reason. Over gRPC it is the `reason` of a `google.rpc.ErrorInfo` in the
domain `masquerade`, with what is known about the case as its metadata. In a shell it decides the exit status: 0 done,
1 a fault of ours, 2 bad input or refused (nothing was written), 3 a dependency is absent, 130 interrupted.

In the texts `{name|words}` is a field or else the words; a part in square brackets is left out when its field is not
known.

| reason | gRPC code | exit | what it says | what to do |
|---|---|---|---|---|
"""


def render() -> str:
    """The whole document."""
    return HEAD + "".join(_row(reason, explanation) for reason, explanation in TABLE.items())


def _row(reason: str, explanation: Explanation) -> str:
    meaning = (BY_REASON[reason].__doc__ or "").strip()
    text = explanation.text.replace("|", "\\|")
    cells = (
        f"`{reason}`",
        f"`{explanation.code.name}`",
        str(int(explanation.exit)),
        f"{meaning}<br>`{text}`",
        explanation.remedy.replace("|", "\\|"),
    )
    return "| " + " | ".join(cells) + " |\n"


def main() -> None:
    """Write docs/errors.md of the checkout; with `--check` only say whether it is as it would be written."""
    document = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
    if sys.argv[1:] == ["--check"]:
        if document.read_text(encoding="utf-8") != render():
            sys.exit("docs/errors.md is not what the table says: run python -m services.common.errors_doc")
        return
    document.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
