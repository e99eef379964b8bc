"""Is one model better than another? Two MLflow runs, compared study by study.

python experiments/compare_runs.py RUN_A RUN_B
python experiments/compare_runs.py RUN_A RUN_B --table valid_predictions.csv --out comparison.csv

RUN is the id of a run; the tracking server is that of MLFLOW_TRACKING_URI, or else of this folder.
Each model is taken at its own operating point. The table holds differences, B minus A, with 95 %
intervals over resampled patients, and McNemar's test of the decisions, its p also adjusted for the
number of study types (Holm).
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from mura_skorch.cli.options import add_option, make_parser
from mura_skorch.evaluation import compare_models, join_notes, match_predictions
from mura_skorch.tracking import fetch_predictions
from mura_skorch.utils.text import printable


def main(argv=None):
    """Fetch, match, compare, print; return 0."""
    args = parse(argv)
    try:
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
    except ValueError as error:
        sys.exit(f"compare_runs: {error}")
    note = join_notes(both)
    print(note or "", f"A: run {args.run_a}", f"B: run {args.run_b}", "", sep="\n")
    print(as_text(found))
    print("\nB - A: positive where B is better; in brackets 95 %, over resampled patients.")
    print(
        "A only, B only: studies that this model alone calls right; McNemar's test compares the\n"
        "two. It takes studies for independent: with several alike studies of a patient its p is\n"
        "too small, and the intervals are to be believed."
    )
    if len(found) > 2:
        n = len(found) - 1
        print(
            f"The overall row is the one planned test. The {n} study types are {n} more, of which "
            "one differs\nby chance more often than a single test does: read p (Holm) there, which "
            "is adjusted over\nthe types. The intervals are not adjusted."
        )
    for name, of in zip("AB", tables, strict=True):
        n_models = of["scored_by"].nunique() if "scored_by" in of else 1
        if n_models > 1:
            print(
                f"{name} is {n_models} models, each on a scale of its own: its overall AUROC pools "
                "them; compare\nthe AUROCs of the study types."
            )
    few = found[found["caution"] != ""]
    if len(few):
        names = ", ".join(map(printable, few["study_type"]))
        print(f"{few['caution'].iloc[0].capitalize()}, intervals likely too narrow: {names}.")
    left_out = [len(table) - len(both) for table in tables]
    if any(left_out):
        print(
            f"Compared on {len(both)} studies; left out, for want of a label, a score or the "
            f"study in the other run: {left_out[0]} of A, {left_out[1]} of B."
        )
    if "patient" not in both:
        print("No patients are known: each study counts as its own, and intervals are too narrow.")
    for row in found[found["undefined"] != ""].itertuples():
        print(f"{printable(row.study_type)}: {row.undefined}")
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        runs = {"run_a": args.run_a, "run_b": args.run_b}
        noted = {"note": note} if note else {}
        found.assign(**runs, **noted).to_csv(args.out, index=False)
        print(f"\nTable: {args.out}")
    return 0


def as_text(found):
    """Return the comparison as aligned text."""
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


def parse(argv):
    """Return the arguments."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("run_a", metavar="RUN_A", help="id of the first run")
    add("run_b", metavar="RUN_B", help="id of the second run")
    add("--table", help="artifact path of the predictions (default: the reported ones of each run)")
    add("--common", action="store_true", help="compare on the studies that both runs have")
    add("--out", type=Path, help="CSV file to write")
    add("--n-resamples", type=int, default=2000)
    add_option(parser, "--random-state")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
