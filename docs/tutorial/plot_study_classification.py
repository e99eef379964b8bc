"""
From a folder of radiographs to a judged model
==============================================

For readers who know pandas and scikit-learn and are new to this package. In a minute or two on
two cores we draw a small dataset, look at it, train on it, and find out how good the model is and
where it looks.

The radiographs are *phantoms*: a program draws bones that do not exist, some with a fracture or
with metal. They make this page run anywhere, and their figures say nothing about patients:
**phantoms: no clinical meaning**. Real data take their place in one line, at the end.

To follow along, install the package and download this page as a notebook or a script, at the
bottom. A notebook shows the figure that stands in the last line of a cell; in a script, save it:
``display = KappaDisplay(scores).plot()``, then ``display.figure_.savefig("kappa.png")``.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GroupShuffleSplit

from mura_skorch import MuraClassifier, PatientSplit, read_studies, study_scores, write_phantoms
from mura_skorch.data import read_view
from mura_skorch.ensemble import load_model
from mura_skorch.evaluation import prediction_table, view_prediction_table
from mura_skorch.metrics import kappa_score, view_scores
from mura_skorch.plots import (
    KappaDisplay,
    MapDisplay,
    ReliabilityDisplay,
    RocDisplay,
    TrainingDisplay,
)

# %%
# Draw the phantoms
# -----------------
#
# A folder in the layout of MURA, Stanford's dataset of radiographs of the arm: upper arms and
# wrists, 80 studies of each to train with and 60 to judge with.

folder = Path(tempfile.mkdtemp())
root = write_phantoms(
    folder / "phantoms",
    n_train=80,
    n_valid=60,
    n_test=0,
    study_types=["XR_HUMERUS", "XR_WRIST"],
)
print((root / "NOTE.txt").read_text().splitlines()[0])

# %%
# A study is a row
# ----------------
#
# A *study* is one visit of one patient: all the radiographs, or *views*, that were taken of one
# body part that day. Radiologists judge the study, not the single picture, so a study has one
# *label*: 1 abnormal, 0 normal. ``read_studies`` makes one row of each.

studies = read_studies(root)
studies["n_views"] = studies.views.map(len)
studies[["split", "study_type", "patient", "n_views", "label", "note"]].head()

# %%
# Everything from here on is pandas. How many studies are there, and how many of them are
# abnormal?

note = studies.note.iloc[0]
counts = studies.groupby(["split", "study_type"]).agg(
    patients=("patient", "nunique"),
    studies=("study", "size"),
    abnormal=("label", "sum"),
    views=("n_views", "sum"),
)
counts.assign(note=note)

# %%
# Look at the views
# -----------------
#
# Look before you train: two wrists of three views each, a normal one above, an abnormal one
# below. The phantoms come with a table of boxes around what was drawn as abnormal. The network
# never sees the boxes: all that it is told is one label per study.

lesions = pd.read_csv(root / "lesions.csv")
lesions["view"] = [str(root.parent / view) for view in lesions.view]
lesions = lesions.set_index("view")


def show(study, axes):
    """Draw the views of one study, with the boxes of its lesions."""
    for ax, path in zip(axes, study.views, strict=True):
        ax.imshow(read_view(path), cmap="gray")
        ax.set(xticks=[], yticks=[])
        if path in lesions.index:
            x0, y0, x1, y1 = lesions.loc[path]
            box = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="yellow")
            ax.add_patch(box)
    axes[0].set_ylabel("abnormal" if study.label else "normal")


wrists = studies[(studies.study_type == "XR_WRIST") & (studies.n_views == 3)]
figure, axes = plt.subplots(2, 3, figsize=(7.5, 6), layout="constrained")
for label, row in enumerate(axes):
    show(wrists[wrists.label == label].iloc[0], row)
figure.suptitle(note, color="#D55E00")
plt.show()

# %%
# Keep patients apart
# -------------------
#
# A patient may come several times, and two studies of one person look alike: same bones, often
# the same metal. If one of them is trained on and the other one judged, the model is praised for
# recognising the patient. So patients, never studies, are divided. Here the folder has done it:

train, valid = studies[studies.split == "train"], studies[studies.split == "valid"]
to_train, to_judge = set(train.patient), set(valid.patient)
print(f"{len(to_train)} patients to train with, {len(to_judge)} to judge with,")
print(f"in both: {len(to_train & to_judge)} ({note})")

# %%
# ``fit`` divides once more. It holds some of the *training* patients out, to see after each pass
# over the data whether the model still gets better, and keeps the weights of the best pass.
# ``valid`` takes no part in that: what helped to choose a model cannot judge it.
#
# Train
# -----
#
# ``MuraClassifier`` is a scikit-learn classifier whose ``X`` is the table. It reads every view of
# a study and averages their probabilities; the loss is that of the study. All parameters below
# but ``random_state`` make it quick on a CPU: no weights to download, small pictures, few passes.
# For real radiographs, leave them out.
#
# Every fit is on record as an MLflow run. Here the record goes to the folder of the phantoms;
# without these lines it goes to where you work, and ``mlflow ui`` shows it.

mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
mlflow.create_experiment("tutorial", artifact_location=(folder / "mlruns").as_uri())
mlflow.set_experiment("tutorial")
clf = MuraClassifier(
    module__weights=None,
    dataset__image_size=64,
    max_epochs=3,
    lr=5e-4,
    train_split=PatientSplit(0.2),
    random_state=0,
)
print(note)
clf.fit(train)

# %%
# ``clf.history`` holds a row per epoch. Training loss that falls while the loss of held-out
# patients rises is the sign of a model that learns its patients by heart.

epochs = pd.DataFrame(clf.history.to_list()).assign(name="humerus and wrist")
TrainingDisplay(epochs, note=note).plot().figure_

# %%
# Predict
# -------
#
# ``predict_proba`` has two columns, normal and abnormal, as scikit-learn has it;
# ``prediction_table`` sets the second one beside what is known of the studies. ``decision`` is 1
# where the score is above the threshold, 0.5 as yet.

y_true, y_score = valid.label.astype(int), clf.predict_proba(valid)[:, 1]
predictions = prediction_table(valid, y_score)
predictions.drop(columns="study").head().round(3)

# %%
# How good is it?
# ---------------
#
# Accuracy flatters: who calls every study normal is right about all the normal ones. *Cohen's
# kappa* is agreement beyond chance: 0 is what guessing would reach, 1 is full agreement with the
# labels, and below 0 is worse than guessing. It is the figure by which MURA's radiologists and
# models are compared.

decisions = {
    "Everything normal": np.zeros(len(valid), dtype=int),
    "The model": (y_score > clf.threshold_).astype(int),  # clf.predict(valid)
}
for who, y_pred in decisions.items():
    accuracy, kappa = accuracy_score(y_true, y_pred), kappa_score(y_true, y_pred)
    print(f"{who}: accuracy {accuracy:.2f}, kappa {kappa:.2f}")
print(note)

# %%
# ``study_scores`` has all the figures, for each body part and over all, with 95 % intervals: what
# else could have come out, had other patients come? It answers by drawing whole *patients* again
# and again, which is why it wants to know them. With 60 studies of a type, the intervals are
# wide. Believe them.

scores = study_scores(y_true, y_score, study_type=valid.study_type, groups=valid.patient)
columns = [
    "study_type",
    "n",
    "kappa",
    "kappa_low",
    "kappa_high",
    "auroc",
    "auroc_low",
    "auroc_high",
]
scores[columns].round(3).assign(note=note)

# %%

KappaDisplay(scores, note=note).plot().figure_

# %%
# Why studies and not views? A lesion need not show in each view, and then the label of the study
# is wrong for that view. Judged one by one, the same model on the same pictures looks different,
# and nobody treats a single view:

of_views = view_prediction_table(valid, clf.predict_view_proba(valid))
by_view = view_scores(of_views.label.astype(int), of_views.score, groups=of_views.patient)
by_study = scores[scores.study_type == "overall"]
pd.concat([by_study, by_view])[["level", "n", *columns[2:]]].round(3).assign(note=note)

# %%
# Rank and trust
# --------------
#
# The ROC curve shows what other thresholds would give; the dot is the threshold in use.

RocDisplay.from_predictions(y_true, y_score, note=note).figure_

# %%
# Reliability: of the studies with a score near 0.8, are 80 % abnormal? Points below the diagonal
# say that the model is too sure. A point of a few studies, see the histogram, means little.

ReliabilityDisplay(y_true, y_score, note=note).plot().figure_

# %%
# Where does it look?
# -------------------
#
# ``localize`` returns a map for every view; its mean, plus a constant, *is* the logit of the view,
# so that the map shows exactly where the score comes from. Below is the abnormal study with the
# highest score among those with a box; the box is yellow again.
#
# A map has one cell for 32 x 32 pixels. That is 2 x 2 cells here, so that it can tell the upper
# half from the lower one and no more. At the usual 224 pixels there are 7 x 7.

has_box = [any(path in lesions.index for path in views) for views in valid.views]
study = valid.iloc[[np.where(has_box, y_score, 0).argmax()]]
maps = clf.localize(study)[0]
views = study.views.iloc[0]
shown = next(i for i, path in enumerate(views) if path in lesions.index)
MapDisplay(
    read_view(views[shown]),
    maps[shown],
    box=lesions.loc[views[shown]],
    title="abnormal",
    note=note,
).plot().figure_

# %%
# Choose an operating point
# -------------------------
#
# A threshold of 0.5 weighs a missed fracture like a false alarm. If at most one abnormal study in
# ten may be missed, ask for it. ``recalibrate`` returns a copy with another threshold, and with
# probabilities whose mean is the share of abnormal studies; no weight changes. It needs labelled
# studies that it was not trained on, and other ones must judge it: we halve ``valid``, by patient.

halves = GroupShuffleSplit(n_splits=1, test_size=0.5, random_state=0)
first, second = next(halves.split(valid, groups=valid.patient))
tuning, judging = valid.iloc[first], valid.iloc[second]
local = clf.recalibrate(tuning, threshold="sensitivity=0.9")
print(local.describe_operating_point(), note, sep="\n")

models = {"threshold 0.5": clf, "recalibrated": local}
rows = [
    study_scores(
        judging.label.astype(int),
        model.predict_proba(judging)[:, 1],
        groups=judging.patient,
        threshold=model.threshold_,
    ).assign(model=name)
    for name, model in models.items()
]
columns = ["model", "n", "sensitivity", "specificity", "kappa"]
pd.concat(rows)[columns].round(3).assign(note=note)

# %%
# Compare the rows: what a lower threshold finds more, it pays for with false alarms, and a lesion
# that the network does not see at all is beyond any threshold. Asked for on one half, 0.9 is not
# promised on the other either: it is an estimate, like all else.
#
# Save and load
# -------------
#
# A saved model is a folder without pickle; loaded, it predicts the same, to the last bit. MLflow
# has the model of the fit, too: its run's id opens it from anywhere.

local.save(folder / "model")
again = load_model(folder / "model")
some = judging.head(10)
assert (again.predict_proba(some) == local.predict_proba(some)).all()
print(again.describe_operating_point(), note, sep="\n")

from_run = MuraClassifier.load(clf.run_id_)
assert (from_run.predict_proba(some) == clf.predict_proba(some)).all()

# %%
# Where to go next
# ----------------
#
# - **MURA itself**: ``read_studies("MURA-v1.1")`` and ``MuraClassifier()`` with a GPU. The README
#   names a script for each question, such as which body parts the network can read.
# - **Your own pictures**, PNG or DICOM: :doc:`../own_data`. Mind its two rules on patients and
#   labels.
# - **The record of the fit**: ``mlflow ui`` in the folder where you train.
# - **Searches, cross-validation, votes**: :doc:`../scikit_learn`.
# - **One page for colleagues**: :func:`mura_skorch.report.write_report` puts all the figures
#   above, and the worst mistakes in pictures, into a single file.
# - **A model that answers over HTTP**: :doc:`../serving`.
# - **Every function with its parameters**: :doc:`../reference/index`.
