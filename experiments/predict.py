"""How good is a saved model on other studies? Its predictions, and figures where labels are known.

python experiments/predict.py --model RUN --data MURA-v1.1 --split valid
python experiments/predict.py --model DIR --data clinic --labels labels.csv --readers anna ben
python experiments/predict.py --model DIR --data clinic --refit-on clinic_2024 --threshold youden
"""

import argparse
import sys
from datetime import datetime
from pathlib import Path

from mura_skorch import read_studies
from mura_skorch.ensemble import load_model
from mura_skorch.evaluation import final_metrics
from mura_skorch.judging import judge
from mura_skorch.labels import join_labels
from mura_skorch.operating_point import check_rule, is_rule
from mura_skorch.predictions import join_notes, prediction_table
from mura_skorch.published import is_mura
from mura_skorch.report import write_report
from mura_skorch.runs import Run, use_experiment
from mura_skorch.score_tables import format_scores


def main(argv=None):
    """Predict, and judge where there are labels; return 0."""
    args = parse(argv)
    keep = list(dict.fromkeys([*args.readers, *[args.gold] * bool(args.gold), *args.by]))
    try:
        studies = read(args)
        prediction_table(studies, keep=keep)  # a column that is missing is missed here
        model = open_model(args, studies)
        use_experiment(args.experiment)
    except (OSError, ValueError) as error:
        sys.exit(f"predict: {error}")
    if model.note_ and "note" not in studies:
        studies = studies.assign(note=f"model trained on {model.note_}")
    note = join_notes(studies)
    print(f"{note or ''}\n{len(studies):,} studies: reading ...", flush=True)
    with Run(name="predict", note=note) as run:
        run.log_params({name: value for name, value in vars(args).items() if value not in ([], "")})
        found = judge(model, studies, keep=keep, n_cases=args.cases)
        if args.refit_on:
            model.save(args.out / "model")
        if studies["label"].notna().any():
            scores = write_report(
                args.out,
                found.predictions,
                view_predictions=found.view_predictions,
                about=about(args, model, run),
                cases=found.cases,
                published=is_mura(studies),
                readers=args.readers,
                gold=args.gold,
                by=args.by,
                title="A saved model, judged",
            )
            run.log_metrics(final_metrics(scores))
            print(f"\n{format_scores(scores)}\n{note or ''}\n\nReport: {args.out}/report.html")
        else:
            args.out.mkdir(parents=True, exist_ok=True)
            found.predictions.to_csv(args.out / "predictions.csv", index=False)
            found.view_predictions.to_csv(args.out / "view_predictions.csv", index=False)
            print(f"No labels: nothing to judge.\nPredictions: {args.out}/predictions.csv")
        run.log_folder(args.out, "report")
    return 0


def read(args):
    """Return the studies to predict, labelled as far as labels are known."""
    studies = read_studies(args.data)
    found = sorted(set(studies["split"]))
    chosen = [args.split] if args.split else [name for name in found if name != "train"] or found
    if missing := set(chosen) - set(found):
        raise ValueError(f"expected --split among {found} in {args.data}, got {missing}")
    print(f"Split: {', '.join(chosen)}")
    own = studies[studies["split"].isin(chosen)]
    return join_labels(own, args.labels, others=studies["study"]) if args.labels else own


def open_model(args, studies):
    """Return the model, at the operating point that was asked for."""
    model = load_model(args.model, device=args.device)
    if args.refit_on:
        local = read_studies(args.refit_on)
        local = join_labels(local, args.refit_labels) if args.refit_labels else local
        local = local[local["label"].notna()]
        if shared := set(local["views"].explode()) & set(studies["views"].explode()):
            raise ValueError(
                f"expected --refit-on with other studies than those reported, got {len(shared)} "
                "views in both; figures on studies that chose a threshold are too good"
            )
        print(f"Refitting threshold and temperature on {len(local):,} labelled studies ...")
        rule = "youden" if args.threshold is None else args.threshold
        return model.recalibrate(local, threshold=rule)
    if is_rule(args.threshold) and args.threshold != model.threshold:
        raise ValueError(
            f"expected --refit-on with labelled studies to choose the threshold by "
            f"{args.threshold!r} on, got none; or pass a number"
        )
    return model if args.threshold is None else model.set_params(threshold=args.threshold)


def about(args, model, run):
    """Return what the report says of the model and the data."""
    chosen = f" ({model.threshold})" if is_rule(model.threshold) else ""
    chosen += f", refitted on {args.refit_on.name}" if args.refit_on else ""
    scale = f"; temperature {model.temperature_:.3g}" if model.temperature_ != 1 else ""
    members = getattr(model, "estimators_", [model])
    trained = ", ".join(f"{net.run_id_ or 'no run'} (seed {net.seed_})" for net in members)
    return {
        "Question": __doc__.splitlines()[0],
        "Data": f"{args.data.name}, split {args.split or 'as found, without train'}",
        "Labels": args.labels.name if args.labels else "of the folder",
        "Model": f"{Path(str(args.model)).name}, trained in {trained}",
        "Operating point": f"abnormal above {model.threshold_:.4g}{chosen}{scale}",
        "MLflow run": str(run.run_id),
    }


def threshold(text):
    """Return a threshold from the command line, a number or a rule."""
    try:
        value = float(text)
    except ValueError:
        value = text
    try:
        check_rule(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return value


def parse(argv):
    """Return the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", required=True, help="folder of a saved model or ensemble, or an MLflow run's id")
    add("--data", type=Path, required=True, help="MURA's folder or one like it")
    add("--split", help="train, valid or test (default: all but train)")
    add("--labels", type=Path, metavar="CSV", help="columns study, label, and any others")
    add("--readers", nargs="+", default=[], metavar="COLUMN", help="readers' labels in --labels")
    add("--gold", metavar="COLUMN", help="what readers are held against (default: each other)")
    add("--by", nargs="+", default=[], metavar="COLUMN", help="site, scanner, sex ... in --labels")
    add("--threshold", type=threshold, help="a number, youden, or sensitivity=0.95")
    add("--refit-on", type=Path, metavar="DIR", help="labelled studies for threshold, temperature")
    add("--refit-labels", type=Path, metavar="CSV", help="their labels")
    add("--cases", type=int, default=4, help="misses and false alarms to show")
    add("--device", default="auto")
    add("--experiment", default="predict", help="name of the MLflow experiment")
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    add("--out", type=Path, default=Path("results") / stamp, help="folder of the report")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
