"""Does a triage keep its promise? Split patients 200 times into local and new ones.

python coverage.py unflipped/suspects.csv 0.05 0.1

The file is what experiments/review_labels.py writes: out-of-fold probabilities, of models that saw
no study of the patient. Half of the patients choose the limits, one study of each of the others is
answered.
"""

import sys

import numpy as np
import pandas as pd

from mura_skorch.calibration import fit_triage

N_SPLITS = 200
COLUMNS = ("label", "p_abnormal", "study_type", "patient", "study")


def main(file, *rates):
    """Print the error rates and the share of "look yourself" for each promise."""
    table = pd.read_csv(file)
    for rate in map(float, rates):
        rows = pd.DataFrame([split(table, rate, seed) for seed in range(N_SPLITS)])
        # A type may lack the patients it needs in a split; its studies are then left to a reader.
        error = rows.std() / np.sqrt(rows.notna().sum())
        print(f"promise {rate:g}, {N_SPLITS} splits: mean and its standard error")
        print(pd.DataFrame({"mean": rows.mean(), "error": error}).round(4).to_string(), "\n")


def split(table, rate, seed):
    """Return what one split gives, over the types that have limits."""
    rng = np.random.default_rng(seed)
    patients = rng.permutation(table["patient"].unique())
    is_local = table["patient"].isin(patients[: len(patients) // 2])
    local = table[is_local]
    found = fit_triage(*(local[name] for name in COLUMNS), error_rate=rate)
    others = table[~is_local & ~table["study_type"].isin(list(found.closed_types))]
    new = others.iloc[rng.permutation(len(others))]
    new = new.drop_duplicates(["patient", "study_type", "label"])
    answer, label = found.decide(new["p_abnormal"], new["study_type"]), new["label"]
    sizes = {
        (name, label): (own.n_normal, own.n_abnormal)[label]
        for name, own in found.limits.items()
        for label in (0, 1)
    }
    result: dict[str, float] = {}
    for value, wrong in ((1, "normal"), (0, "abnormal")):
        own = new[label == value]
        n = own["study_type"].map(lambda name, value=value: sizes[name, value])
        word = "abnormal" if value else "normal"
        result |= {
            f"{word} studies called {wrong}": (answer[label == value] == wrong).mean(),
            f"{word}: expected by theory, unless limits overlap": (
                np.floor((n + 1) * rate + 1e-9) / (n + 1)
            ).mean(),
        }
    overlap = [own.normal_below == own.abnormal_above for own in found.limits.values()]
    return result | {
        "look yourself": (answer == "look yourself").mean(),
        "types without limits": len(found.closed_types),
        "types whose limits overlap": sum(overlap) - len(found.closed_types),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
