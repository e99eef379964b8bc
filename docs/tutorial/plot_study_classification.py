"""
From a folder of radiographs to an evaluated model
==================================================

This page is for readers who know pandas and scikit-learn but not this package. In a minute or two
on two cores, it draws a small dataset, trains a model, and shows how good the model is and where it
looks.

The radiographs are *phantoms*: computer drawings of bones, some with a fracture or with metal.
They let this page run anywhere, and their figures say nothing about patients:
**phantoms: no clinical meaning**. The last section shows how to use real data.

To follow along, install the package and download this page as a notebook or a script, at the
bottom. A notebook shows the figure in the last line of a cell. In a script, save it:
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
# The folder has the layout of MURA, Stanford's dataset of radiographs of the arm: upper arms and
# wrists, with 60 studies of each for training and 40 for evaluation.

folder = Path(tempfile.mkdtemp())
root = write_phantoms(
    folder / "phantoms",
    n_train=60,
    n_valid=40,
    n_test=0,
    study_types=["XR_HUMERUS", "XR_WRIST"],
)
print((root / "NOTE.txt").read_text().splitlines()[0])

# %%
# A study is a row
# ----------------
#
# A *study* is one visit of one patient: all radiographs, called *views*, of one body part on that
# day. Radiologists read the study, not a single view, so a study has one *label*: 1 abnormal,
# 0 normal. ``read_studies`` returns one row per study.

studies = read_studies(root)
studies["n_views"] = studies.views.map(len)
studies[["split", "study_type", "patient", "n_views", "label", "note"]].head()

# %%
# The table is an ordinary DataFrame. How many studies are there, and how many are abnormal?

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
# Below are two wrist studies of three views each: a normal one above, an abnormal one below. The
# phantoms come with a table of boxes around abnormal findings. The network never sees the boxes; it
# is trained with one label per study.

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
# Split by patient
# ----------------
#
# A patient may have several studies, which look similar: the same bones, often the same metal. If
# one is used for training and another for evaluation, the model is rewarded for recognising the
# patient. So split patients, never studies. Here, the folders are already split by patient:

train, valid = studies[studies.split == "train"], studies[studies.split == "valid"]
train_patients, valid_patients = set(train.patient), set(valid.patient)
print(f"{len(train_patients)} training patients, {len(valid_patients)} for evaluation,")
print(f"in both: {len(train_patients & valid_patients)} ({note})")

# %%
# ``fit`` splits the training patients again: it holds some of them out for validation after each
# epoch, and selects the weights of the best epoch. ``valid`` is not used for this, because studies
# that selected a model cannot give an unbiased estimate of its performance.
#
# Train
# -----
#
# ``MuraClassifier`` is a scikit-learn classifier whose ``X`` is the table. It reads every view of
# a study and averages their probabilities; the loss is computed on this mean. All parameters below
# except ``random_state`` make it fast on a CPU: no download of weights, smaller images, two epochs
# with a higher rate, and enough patients held out of so few. For real radiographs, leave them out.
#
# Every fit is logged as an MLflow run. The first lines below put the runs into the folder of the
# phantoms. Without them, the runs go to the current folder, where ``mlflow ui`` shows them.

mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
mlflow.create_experiment("tutorial", artifact_location=(folder / "mlruns").as_uri())
mlflow.set_experiment("tutorial")
clf = MuraClassifier(
    module__weights=None,
    dataset__image_size=160,
    max_epochs=2,
    lr=3e-4,
    train_split=PatientSplit(0.2),
    random_state=0,
)
print(note)
clf.fit(train)

# %%
# ``clf.history`` has one row per epoch. A training loss that falls while the validation loss rises
# is a sign of overfitting.

epochs = pd.DataFrame(clf.history.to_list()).assign(name="humerus and wrist")
TrainingDisplay(epochs, note=note).plot().figure_

# %%
# Predict
# -------
#
# ``predict_proba`` has two columns, normal and abnormal, as in scikit-learn. ``prediction_table``
# adds the second one to the columns of the studies. ``decision`` is 1 if the score is above the
# threshold, which is 0.5 here.

y_true, y_score = valid.label.astype(int), clf.predict_proba(valid)[:, 1]
predictions = prediction_table(valid, y_score)
predictions.drop(columns="study").head().round(3)

# %%
# How good is it?
# ---------------
#
# Accuracy can mislead: calling every study normal is correct for all normal studies. *Cohen's
# kappa* measures agreement beyond chance: 0 is agreement by chance, 1 is perfect agreement with the
# labels, and negative values are worse than chance. MURA's radiologists and models are compared by
# kappa.

decisions = {
    "Everything normal": np.zeros(len(valid), dtype=int),
    "The model": (y_score > clf.threshold_).astype(int),  # clf.predict(valid)
}
for who, y_pred in decisions.items():
    accuracy, kappa = accuracy_score(y_true, y_pred), kappa_score(y_true, y_pred)
    print(f"{who}: accuracy {accuracy:.2f}, kappa {kappa:.2f}")
print(note)

# %%
# ``study_scores`` returns all metrics, per study type and overall, with 95 % intervals. The
# intervals show how much the metrics would vary with other patients. They are computed by a
# bootstrap over *patients*, so pass the patients as ``groups``. With 40 studies per type, the
# intervals are wide.

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
# Why studies and not views? A lesion may be invisible in some views, for which the label of the
# study is then wrong. Scored by view, the same model on the same images has different metrics, and
# decisions in practice concern the study:

of_views = view_prediction_table(valid, clf.predict_view_proba(valid))
by_view = view_scores(of_views.label.astype(int), of_views.score, groups=of_views.patient)
by_study = scores[scores.study_type == "overall"]
pd.concat([by_study, by_view])[["level", "n", *columns[2:]]].round(3).assign(note=note)

# %%
# ROC and reliability
# -------------------
#
# The ROC curve shows sensitivity and specificity at all thresholds; the dot is the current one.

RocDisplay.from_predictions(y_true, y_score, note=note).figure_

# %%
# The reliability curve compares probabilities with outcomes: of the studies with a score near 0.8,
# are 80 % abnormal? Points below the diagonal show probabilities that are too high. Points of few
# studies (see the histogram) are uncertain.

ReliabilityDisplay(y_true, y_score, note=note).plot().figure_

# %%
# Where does it look?
# -------------------
#
# ``localize`` returns a map for every view. Its mean plus a constant *equals* the logit of the
# view, so the map shows exactly where the score comes from. Below is the abnormal study with the
# highest score among those with a box; the box is again yellow.
#
# A map has one cell per 32 x 32 pixels of the network's input: 5 x 5 cells here, and 7 x 7 at the
# usual 224 pixels.

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
# A threshold of 0.5 gives false negatives and false positives the same weight. To miss at most one
# abnormal study in ten, choose a threshold with a sensitivity of 0.9. ``recalibrate`` returns a
# copy with that threshold, and with probabilities whose mean is the share of abnormal studies. The
# weights do not change. It needs labelled studies that were not used for training, and the result
# must be evaluated on others. So we split ``valid`` into two halves by patient.

halves = GroupShuffleSplit(n_splits=1, test_size=0.5, random_state=0)
first, second = next(halves.split(valid, groups=valid.patient))
tuning, test = valid.iloc[first], valid.iloc[second]
local = clf.recalibrate(tuning, threshold="sensitivity=0.9")
print(local.describe_operating_point(), note, sep="\n")

models = {"threshold 0.5": clf, "recalibrated": local}
rows = [
    study_scores(
        test.label.astype(int),
        model.predict_proba(test)[:, 1],
        groups=test.patient,
        threshold=model.threshold_,
    ).assign(model=name)
    for name, model in models.items()
]
columns = ["model", "n", "sensitivity", "specificity", "kappa"]
pd.concat(rows)[columns].round(3).assign(note=note)

# %%
# Compare the rows: a lower threshold finds more abnormal studies at the cost of false positives.
# The sensitivity of 0.9 was reached on one half; on the other half it is only an estimate.
#
# Save and load
# -------------
#
# A saved model is a folder without pickle files. The loaded model gives bit-identical predictions.
# MLflow also stores the model of the fit, which can be loaded by the id of its run.

local.save(folder / "model")
again = load_model(folder / "model")
some = test.head(10)
assert (again.predict_proba(some) == local.predict_proba(some)).all()
print(again.describe_operating_point(), note, sep="\n")

from_run = MuraClassifier.load(clf.run_id_)
assert (from_run.predict_proba(some) == clf.predict_proba(some)).all()

# %%
# Where to go next
# ----------------
#
# - **MURA itself**: ``read_studies("MURA-v1.1")`` and ``MuraClassifier()`` with a GPU;
#   :doc:`../reference/command_line` has a command for each question.
# - **Your own images**, PNG or DICOM: :doc:`../how_to/own_data`. Read its two rules on patients and
#   labels.
# - **The logged fit**: ``mlflow ui`` in the folder where you train.
# - **Searches, cross-validation, ensembles**: :doc:`../how_to/scikit_learn`.
# - **A report for colleagues**: :func:`mura_skorch.report.write_report` puts all figures above, and
#   pictures of the worst errors, into a single HTML file.
# - **Predictions over HTTP**: :doc:`../how_to/serving`.
# - **Every function with its parameters**: :doc:`../reference/index`.
