"""`masquerade doctor`: what is missing on this machine, and how to mend it."""

from __future__ import annotations

import sys

from services.standalone.cli import options
from services.standalone.cli.ending import told_in_a_line

ABSENT = 3


def doctor(data: options.Data = None) -> None:
    """Say what is missing and how to mend it; exit status 3 if anything is."""
    with told_in_a_line():
        from rich import box
        from rich.table import Table

        from services.standalone.doctor import examine

        settings = options.load_settings(options.flags(data=data))
        findings = examine(settings.data, settings.model_repository)
        table = Table(box=box.SIMPLE_HEAD)
        for title in ("", "subject", "found", "mend it so"):
            table.add_column(title, overflow="fold")
        for finding in findings:
            mark = "[green]well[/]" if finding.is_well else "[red]amiss[/]"
            table.add_row(mark, finding.subject, finding.detail, finding.remedy)
        options.console().print(table)
        if not all(finding.is_well for finding in findings):
            sys.exit(ABSENT)
