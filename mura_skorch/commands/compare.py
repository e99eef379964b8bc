"""What ``mura-skorch compare`` does: compare the predictions of two MLflow runs."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mura_skorch.commands import CommandError
from mura_skorch.commands.json_output import with_json
from mura_skorch.evaluation import compare_models, join_notes, match_predictions
from mura_skorch.tracking import fetch_predictions
from mura_skorch.utils.atomic import check_writable
from mura_skorch.utils.text import printable

__all__ = ["main"]

VALIDATION = "valid_predictions.csv"  # logged by every fit


@with_json
def main(args: Namespace, result: dict[str, Any]) -> int:
    """Fetch, match and compare predictions; print the result; return 0."""
    try:
        if args.out is not None:
            check_writable(args.out.parent)
        tables = [fetch_predictions(run, args.table) for run in (args.run_a, args.run_b)]
        both = match_predictions(*tables, common=args.common)
        found = compare_models(
            both["label"],
            both["score_a"],
            both["score_b"],
            study_type=both.get("study_type"),
            groups=both.get("patient"),
            threshold=(both["threshold_a"], both["threshold_b"]),
            n_resamples=args.n_resamples,
            random_state=args.random_state,
        )
    except (OSError, ValueError) as error:
        raise CommandError(error) from error
    note = join_notes(both)
    print(note or "", f"A: run {args.run_a}", f"B: run {args.run_b}", "", sep="\n")
    print(as_text(found))
    print("\nB - A: positive if B is better; in brackets 95 % intervals (bootstrap over patients).")
    print(
        "A only, B only: studies that only this model classifies correctly, compared by McNemar's\n"
        "test. It assumes independent studies: if patients have several similar studies, its p is\n"
        "too small; trust the intervals."
    )
    if args.table is not None and Path(args.table).name == VALIDATION:
        print(
            f"{VALIDATION}: the validation part of each fit, which selected its epoch, and its\n"
            "threshold if that is a rule. These figures are too good; compare on test studies."
        )
    if len(found) > 2:
        n = len(found) - 1
        print(
            f"The overall row is the one planned test. The {n} study types are {n} more tests, of "
            "which one\ndiffers by chance more often: read p (Holm) there, which is adjusted for "
            "their number. The\nintervals are not adjusted."
        )
    for name, of in zip("AB", tables, strict=True):
        n_models = of["scored_by"].nunique() if "scored_by" in of else 1
        if n_models > 1:
            print(
                f"{name} is {n_models} models, each on its own scale, and its overall AUROC pools "
                "them: compare\nthe AUROCs of the study types."
            )
    few = found[found["caution"] != ""]
    if len(few):
        names = ", ".join(map(printable, few["study_type"]))
        print(f"{few['caution'].iloc[0].capitalize()}, intervals likely too narrow: {names}.")
    left_out = [len(table) - len(both) for table in tables]
    if any(left_out):
        print(
            f"Compared on {len(both)} studies. Left out for a missing label, score or study in the "
            f"other run: {left_out[0]} of A, {left_out[1]} of B."
        )
    if "patient" not in both:
        print(
            "No patients are known: studies count as independent, and intervals may be too narrow."
        )
    for row in found[found["undefined"] != ""].itertuples():
        print(f"{printable(row.study_type)}: {row.undefined}")
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        runs = {"run_a": args.run_a, "run_b": args.run_b}
        noted = {"note": note} if note else {}
        found.assign(**runs, **noted).to_csv(args.out, index=False)
        print(f"\nTable: {args.out}")
    result |= {
        "run_a": args.run_a,
        "run_b": args.run_b,
        "comparison": found,
        "n_studies": len(both),
        "left_out": dict(zip("ab", left_out, strict=True)),
        "table": args.out,
        "note": note,
    }
    return 0


def as_text(found):
    """Format the comparison as aligned text."""
    names = {"study_type": "study type", "n": "studies", "n_patients": "patients"}
    table = found[list(names)].rename(columns=names)
    for name, title in (("kappa", "kappa"), ("auroc", "AUROC")):
        table[f"{title} A"] = found[f"{name}_a"].map("{:.3f}".format)
        table[f"{title} B"] = found[f"{name}_b"].map("{:.3f}".format)
        ends = [f"{name}_difference{end}" for end in ("", "_low", "_high")]
        differences = [
            "n/a" if np.isnan(row[0]) else "{:+.3f} ({:+.3f}, {:+.3f})".format(*row)
            for row in found[ends].to_numpy(float)
        ]
        table[f"{title} B - A"] = [text.replace("+nan", "n/a") for text in differences]
    table["A only"], table["B only"] = found["only_a_right"], found["only_b_right"]
    for name, title in (("mcnemar_p", "McNemar p"), ("p_holm", "p (Holm)")):
        table[title] = found[name].map(lambda p: "n/a" if pd.isna(p) else f"{p:.2g}")
    table["study type"] = table["study type"].map(printable)
    return table.to_string(index=False).replace(" nan", " n/a")
