"""The settings that all trials of a sweep share, and those of one trial."""

import shlex
import uuid
from pathlib import Path

from mura_skorch import MuraClassifier
from mura_skorch.commands.data import weights_or_none
from mura_skorch.commands.defaults import SWEEP
from mura_skorch.commands.script_state import check_settings
from mura_skorch.commands.settings import DEFAULTS as NO_SETTINGS
from mura_skorch.commands.settings import load_network, read_settings
from mura_skorch.evaluation import prediction_table
from mura_skorch.sweeps import parameters_of
from mura_skorch.training.device import count_cores
from mura_skorch.training.parameters import check_parameters
from mura_skorch.utils.provenance import data_digest

__all__ = [
    "DEFAULTS",
    "METRICS",
    "check_shared",
    "check_space",
    "comparison",
    "parameters",
    "recipe",
    "shared_settings",
]

DEFAULTS = SWEEP | {"threads": (count_cores(), 1)}
METRICS = {"valid_loss": "minimize", "valid_kappa": "maximize"}
# What all trials of a study share.
SHARED = (
    *("study_types", "space", "set", "folds", "metric", "weights", "module", "image_size"),
    *("max_epochs", "batch_size", "lr", "valid_share", "random_state"),
)
# What the script itself sets.
OWN = ("random_state", "checkpoint_path", "device", "train_split", "callbacks")
OWN_CALLBACKS = ("callbacks__mlflow", "callbacks__print_log", "callbacks__pruning")
LOSS_CHANGERS = ("criterion", "criterion__level", "criterion__count")


def check_space(space, args):
    """Raise ValueError where a value of the space is wrong, before anything is trained."""
    fixed = parameters({}, args)
    names = [*parameters_of(space), *fixed]
    wrong = [name for name in names if name in OWN or name.startswith(OWN_CALLBACKS)]
    if wrong:
        raise ValueError(
            f"expected --space and --set without {', '.join(wrong)}, which the script sets; use "
            "its options, see --help"
        )
    changing = [name for name in parameters_of(space) if name in LOSS_CHANGERS]
    if changing and args.metric == "valid_loss":
        raise ValueError(
            f"expected values of valid_loss that compare, got {', '.join(changing)} in "
            "--space, which change what it is; pass --metric valid_kappa"
        )
    for name, distribution in space.items():
        choices = getattr(distribution, "choices", None)
        for value in choices or (distribution.low, distribution.high):
            check_parameters(MuraClassifier(**fixed | parameters_of({name: value})))


def check_shared(study, studies, args):
    """Raise ValueError where a study was begun with other data or settings.

    Parameters
    ----------
    study : optuna.Study
        The first call saves the settings in it.
    studies : DataFrame
        All studies of the sweep.
    args : Namespace
        The arguments of the command.
    """
    now = {name: getattr(args, name) for name in SHARED} | {"space": sorted(args.space)}
    now["data"] = data_digest(prediction_table(studies[studies.split == "train"]))
    saved = study.user_attrs.get("shared")
    if saved is None:
        saved = now | {"id": uuid.uuid4().hex}
        study.set_user_attr("shared", saved)
    if differing := [name for name in now if now[name] != saved.get(name)]:
        values = {name: f" ({now[name]}, not {saved.get(name)})" for name in SHARED}
        texts = [f"{name}{values.get(name, '')}" for name in differing]
        raise ValueError(
            f"expected the settings with which the study {args.study} was begun, got different "
            f"{', '.join(texts)}; pass another --study and another --out"
        )
    check_settings(args.out, {"study": saved["id"]})


def parameters(params, args, *, is_text=False):
    """Return the parameters of a setting on top of those that all trials share.

    Parameters
    ----------
    params : dict of str to object
        Values of the setting, by their names in the space.
    args : Namespace
        The arguments of the command.
    is_text : bool, default=False
        Only those that a line of Python can show, without ``--set`` and ``--module``.

    Returns
    -------
    dict of str to object
        Parameters of `MuraClassifier`.
    """
    shared = {
        "dataset__image_size": args.image_size,
        "max_epochs": args.max_epochs,
        "batch_size": args.batch_size,
        "lr": args.lr,
    }
    if args.module is None:
        shared["module__weights"] = weights_or_none(args.weights)
    if is_text:
        return shared | parameters_of(params)
    if args.module is not None:
        shared["module"] = load_network(args.module)
    shared["dataset__cache"] = args.cache
    common = {name: getattr(args, name) for name in ("image_size", "max_epochs", "lr")}
    return shared | read_settings(args.set, **common) | parameters_of(params)


def shared_settings(args):
    """Return the options that all trials share, as a run and the page name them."""
    options = {name: getattr(args, name) for name in SHARED}
    options |= {name: " ".join(options[name]) for name in ("space", "study_types")}
    return options | {"module": args.module and Path(args.module).name}


def recipe(params, args):
    """Return lines of Python that train a setting."""
    settings = parameters(params, args, is_text=True)
    lines = [
        "from mura_skorch import MuraClassifier, PatientSplit, read_studies",
        "",
        f"studies = read_studies({str(args.data)!r})",
        f"own = studies[studies.study_type.isin({args.study_types})]",
        'train = own[own.split == "train"]',
        "clf = MuraClassifier(",
        *(f"    {name}={value!r}," for name, value in settings.items()),
        f"    train_split=PatientSplit({args.valid_share}),",
        f"    random_state={args.random_state},",
    ]
    if args.module is not None:
        file, _, name = args.module.rpartition(":")
        lines[0] = f"import runpy\n\n{lines[0]}"
        lines.insert(-2, f"    module=runpy.run_path({file!r})[{name!r}],")
    if args.set != NO_SETTINGS:
        lines.insert(1, "from mura_skorch.commands.settings import read_settings")
        lines.append(f"    **read_settings({args.set!r}),")
    return "\n".join([*lines, ").fit(train)", ""])


def comparison(params, args):
    """Return the command that compares a setting with the defaults over several seeds."""
    if args.set != NO_SETTINGS and "=" not in args.set:
        return ""  # the parameters of a preset or a file cannot be joined with others
    given = [] if args.set == NO_SETTINGS else [args.set]
    for name, value in parameters_of(params).items():
        is_word = isinstance(value, str) and value.isidentifier()
        given.append(f"{name}={value if is_word else repr(value)}")  # few quotes for the shell
    words = ["mura-skorch", "ablate", args.set, ",".join(given)]
    words += ["--data", str(args.data), "--study-types", *args.study_types]
    for name in ("module", *DEFAULTS):
        value = getattr(args, name)
        if value is not None and not (name == "weights" and args.module is not None):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)
