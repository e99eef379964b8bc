"""How good is a model elsewhere? Score another hospital's studies, and recalibrate on them.

python experiments/external.py --model RUN --data GRAZPEDWRI-DX --own-data MURA-v1.1
python experiments/external.py --model DIR --data FracAtlas --reference results/valid/report
python experiments/external.py --model DIR --data clinic --labels labels.csv --by site
python experiments/external.py --model DIR --data "LERA Dataset" --study-facts study.toml

--data is a folder in the published layout of GRAZPEDWRI-DX, FracAtlas or LERA, in MURA's layout,
or of DICOM files; the layout is found by its files. Only labelled studies are scored.

The report shows the case mix beside the training data, the change of kappa and AUROC from the
model's own hospital with its interval, and what recalibration by slope and intercept gains from
more and more local studies. Figures of the own hospital come from --own-data, whose split
--own-split is predicted, or from --reference, predictions of the same model on studies that it was
not trained on. With --own-data, shared patients are counted if its train split is what the model
was fitted on.

The same as mura-skorch external.
"""

import sys

from mura_skorch.cli.main import run_script


def main(argv=None):
    """Run the command; return its exit status."""
    return run_script("external", __file__, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
