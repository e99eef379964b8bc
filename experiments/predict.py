"""How good is a saved model on other studies? Predict them, and score those with labels.

python experiments/predict.py --model RUN --data MURA-v1.1 --split valid
python experiments/predict.py --model DIR --data clinic --labels labels.csv --readers anna ben
python experiments/predict.py --model DIR --data clinic --refit-on clinic_2024 --threshold youden
python experiments/predict.py --model DIR --data clinic --refit-on clinic --refit-split train
python experiments/predict.py --model DIR --data clinic --labels labels.csv --study-facts study.toml
python experiments/predict.py --model DIR --data clinic --refit-on clinic_2024 --triage 0.05
MURA_SKORCH_SECRET=... python experiments/predict.py --model DIR --data dicom --labels labels.csv
python experiments/predict.py --model DIR --data dicom --study-type HIP=XR_HIP --study-type CHEST=
python experiments/predict.py --model DIR --data clinic --similar-from MURA-v1.1 --cache cache

DICOM needs the extra [dicom]. The secret hashes its patient ids and study UIDs.

The same as mura-skorch predict.
"""

import sys

from mura_skorch.cli.main import run_script


def main(argv=None):
    """Run the command; return its exit status."""
    return run_script("predict", __file__, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
