"""What would a reader without an error say? Write verdicts on the first 100 suspects of phantoms.

python perfect_reader.py seed0/suspects.csv phantoms_labels
"""

import sys

import pandas as pd

from mura_skorch import read_studies


def main(suspects, folder):
    """Write verdicts.csv: "wrong" where the label is not that of the phantom."""
    first = pd.read_csv(suspects).head(100)
    truth = read_studies(folder).set_index("study")["label"].loc[first["study"]]
    is_wrong = first["label"].to_numpy() != truth.to_numpy(dtype=int)
    verdicts = first[["study", "label"]].assign(verdict="right")
    verdicts.loc[is_wrong, "verdict"] = "wrong"
    verdicts.to_csv("verdicts.csv", index=False)
    print(is_wrong.sum(), "wrong labels")


if __name__ == "__main__":
    main(*sys.argv[1:])
