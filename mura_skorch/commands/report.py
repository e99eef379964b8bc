"""What ``mura-skorch report`` does: draw a report again from its tables."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from mura_skorch.commands import CommandError
from mura_skorch.commands.json_output import with_json
from mura_skorch.evaluation import join_notes
from mura_skorch.evaluation.formatting import format_scores
from mura_skorch.report import read_report, read_study_facts, write_report
from mura_skorch.tracking import fetch_report
from mura_skorch.utils.atomic import check_writable

__all__ = ["main"]


@with_json
def main(args: Namespace, result: dict[str, Any]) -> int:
    """Read the tables, write the report, print its scores; return 0."""
    try:
        if args.out.exists() and Path(args.source).exists() and args.out.samefile(args.source):
            raise ValueError(
                f"expected --out other than the report that is read, got {args.out}, where the "
                "pictures of the case review would be lost; pass another --out"
            )
        check_writable(args.out)
        facts = read_study_facts(args.study_facts or {})
        with fetch_report(args.source) as folder:
            arguments = read_report(folder)
        arguments["study_facts"] = {**arguments["study_facts"], **facts}
        given = {"prevalence": args.prevalence, "title": args.title}
        arguments |= {name: value for name, value in given.items() if value}
        scores = write_report(args.out, **arguments)
    except (OSError, ValueError) as error:
        raise CommandError(error) from error
    note = join_notes(arguments["inputs"].predictions)
    print(f"{format_scores(scores)}\n{note or ''}\n\nReport: {args.out}/report.html")
    result |= {
        "scores": scores,
        "alerts": list(arguments["inputs"].alerts),
        "report": args.out / "report.html",
        "note": note,
    }
    return 0
