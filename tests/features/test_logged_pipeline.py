import mlflow
import pytest
from nets import tiny_classifier, tiny_densenet
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mura_skorch.evaluation import prediction_table
from mura_skorch.features import StudyEmbedder
from mura_skorch.metrics import study_scores
from mura_skorch.tracking import TrackedRun, fetch_predictions, log_fitted_pipeline
from mura_skorch.utils.provenance import data_digest


@pytest.fixture(scope="module")
def model(train, tmp_path_factory, mlflow_store):
    mlflow.set_experiment("Default")
    embedder = StudyEmbedder(
        backbone=tiny_densenet,
        weights=None,
        image_size=32,
        precision="float32",
        cache=tmp_path_factory.mktemp("cache"),
    )
    model = make_pipeline(embedder, StandardScaler(), LogisticRegression(C=0.25))
    return model.fit(train, train.label)


@pytest.fixture(scope="module")
def logged(model, train, valid):
    return mlflow.get_run(log_fitted_pipeline(model, train, valid=train, test=valid).run_id)


def test_run_has_the_scores_of_a_fit_by_study_type(model, valid, logged):
    y_score = model.predict_proba(valid)[:, 1]
    scores = study_scores(
        valid.label, y_score, study_type=valid.study_type, groups=valid.patient
    ).set_index("study_type")
    metrics = logged.data.metrics
    assert logged.info.status == "FINISHED"
    assert metrics["test/kappa"] == pytest.approx(scores.loc["overall", "kappa"])
    assert metrics["test/kappa/XR_HAND"] == pytest.approx(scores.loc["XR_HAND", "kappa"])
    assert metrics["test/probabilities/auroc"] == pytest.approx(scores.loc["overall", "auroc"])
    assert "valid/kappa/XR_WRIST" in metrics
    assert len(fetch_predictions(logged)) == len(valid)


def test_run_has_the_settings_that_differ_and_no_place(logged, model):
    params = logged.data.params
    assert params["logisticregression__C"] == "0.25"
    assert params["studyembedder__backbone"] == "tiny_densenet"
    assert params["studyembedder__image_size"] == "32"
    assert params["studyembedder__network"] == model[0].network_["weights"][:16]
    assert not [name for name in params if "cache" in name or "max_iter" in name]


def test_run_has_the_digest_of_the_training_studies(logged, train, valid):
    digests = {item.tags[0].value: item.dataset.digest for item in logged.inputs.dataset_inputs}
    assert digests["training"] == data_digest(prediction_table(train))
    assert digests["test"] == data_digest(prediction_table(valid))


def test_run_names_the_fit_of_a_frozen_classifier(train, valid):
    clf = tiny_classifier().initialize()
    clf.run_id_ = "abc"
    model = make_pipeline(StudyEmbedder(clf), StandardScaler(), LogisticRegression())
    with TrackedRun(name="parent") as parent:
        run = log_fitted_pipeline(model.fit(train, train.label), train, parent=parent)
    found = mlflow.get_run(run.run_id)
    assert found.data.params["studyembedder__model"] == "MuraClassifier of run abc"
    assert found.data.tags["mlflow.parentRunId"] == parent.run_id


def test_studies_without_labels_end_the_run_as_failed(model, train, valid):
    with pytest.raises(ValueError, match="expected labelled studies"):
        log_fitted_pipeline(model, train, test=valid.drop(columns="label"), name="unlabelled")
    (run,) = mlflow.search_runs(
        filter_string="attributes.run_name = 'unlabelled'", output_format="list"
    )
    assert run.info.status == "FAILED"
