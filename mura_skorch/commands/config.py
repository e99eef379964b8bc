"""What ``mura-skorch config`` does: print the settings that a command would run with."""

from argparse import Namespace
from typing import Any

from mura_skorch.commands import CommandError, predict, train
from mura_skorch.commands.data import PHANTOMS, fill_in
from mura_skorch.commands.json_output import with_json
from mura_skorch.commands.script_state import load_args
from mura_skorch.commands.settings import check_fit
from mura_skorch.utils.members import trained_types
from mura_skorch.utils.text import printable

__all__ = ["main"]

# Of this call, not of the work.
HIDDEN = ("json", "parent_run_id")


@with_json
def main(args: Namespace, result: dict[str, Any]) -> int:
    """Print settings, data and model of a command; return 0."""
    resolve = {"train": _train, "predict": _predict, "evaluate": _predict}.get(args.name)
    try:
        called, data, model = resolve(args.called) if resolve else (args.called, None, None)
    except (ImportError, OSError, TypeError, ValueError) as error:
        raise CommandError(error) from error
    settings = {name: value for name, value in vars(called).items() if name not in HIDDEN}
    print(f"mura-skorch {args.name} would run with")
    for name, value in settings.items():
        print(f"  {name} = {printable(value)}{'' if name in args.given else '  (default)'}")
    for title, facts in (("data", data), ("model", model)):
        if facts:
            print(f"\n{title}:")
            for name, value in facts.items():
                print(f"  {name} = {printable(value)}")
    result |= {
        "command": args.name,
        "settings": settings,
        "given": args.given,
        "data": data,
        "model": model,
    }
    return 0


def _train(args):
    """Return the complete arguments, the numbers of studies, and the parameters of the model."""
    if args.resume is not None:
        args = load_args(args.resume)
    if args.data is None and not PHANTOMS.exists():
        args.data = PHANTOMS
        fill_in(args, train.DEFAULTS, are_phantoms=True)
        data = {"note": "phantoms, drawn when the command runs"}
    else:
        data = _counts(train.read(args))
    check_fit(train.make_classifier, args)
    params = train.make_classifier(args).get_params(deep=False)
    # A leading underscore marks what skorch keeps for itself.
    model = {name: _named(value) for name, value in params.items() if name[0] != "_"}
    return args, data, model


def _named(value):
    """Return the name of a class, or the value of anything else."""
    return f"{value.__module__}.{value.__qualname__}" if isinstance(value, type) else value


def _predict(args):
    """Return the arguments with the splits, the numbers of studies, and what the model is."""
    data = model = None
    if args.data is not None:
        studies = predict.read(args, predict.wanted_columns(args))
        data = _counts(studies)
    if args.model is not None:
        loaded = predict.load(args)
        model = {
            "kind": type(loaded).__name__,
            "study_types": sorted(trained_types(loaded)),
            "operating_point": loaded.describe_operating_point(),
            "engine": loaded.describe_engine(),
        }
    return args, data, model


def _counts(studies):
    """Return the numbers of studies by split and type, and of those with a label."""
    counts = {
        "studies": len(studies),
        "labelled": int(studies["label"].notna().sum()),
        "study_types": studies["study_type"].value_counts().sort_index().to_dict(),
    }
    if "split" in studies:
        counts["splits"] = studies["split"].value_counts().sort_index().to_dict()
    return counts
