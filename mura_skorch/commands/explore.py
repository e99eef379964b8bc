"""What ``mura-skorch explore`` does: count the studies of a dataset and look for problems."""

import textwrap
from argparse import Namespace
from pathlib import Path
from typing import Any

from mura_skorch.commands import CommandError
from mura_skorch.commands.data import find_data
from mura_skorch.commands.json_output import with_json
from mura_skorch.exploration import (
    describe,
    explore_studies,
    format_table,
    summary_tables,
    write_exploration,
)
from mura_skorch.studies import read_studies
from mura_skorch.utils.atomic import check_writable
from mura_skorch.utils.text import LINE_WIDTH

__all__ = ["main"]

MARKS = {"bad": "!! ", "plain": "-  ", "good": "ok "}


@with_json
def main(args: Namespace, result: dict[str, Any]) -> int:
    """Count, print and write; return 1 if there is a problem."""
    try:
        check_writable(args.out)
        args.data = find_data(args.data)
        studies = read_studies(args.data, use_csv=not args.no_csv)
        found = explore_studies(studies, read_images=not args.no_images, n_jobs=args.jobs)
        name = Path(args.data).resolve().name
        page = write_exploration(found, args.out, title=f"The dataset {name}")
    except (OSError, ValueError) as error:
        raise CommandError(error) from error
    for name, table in summary_tables(found).items():
        print(f"\n{name}\n{'=' * len(name)}\n{format_table(table)}")
    print()
    findings = describe(found)
    for finding in findings:
        print(
            textwrap.fill(MARKS[finding.kind] + finding.text, LINE_WIDTH, subsequent_indent="   ")
        )
    print(f"{found.note or ''}\n\nTables, figure and page: {page}")
    is_bad = any(finding.kind == "bad" for finding in findings)
    result |= {
        "has_problem": is_bad,
        "findings": [finding._asdict() for finding in findings],
        "counts": found.counts,
        "shared_patients": found.shared_patients,
        "duplicates": found.duplicates,
        "unreadable": found.unreadable,
        "page": page,
        "note": found.note,
    }
    return int(is_bad)
