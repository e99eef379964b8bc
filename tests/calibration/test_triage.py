import json
import math
import pickle
from copy import deepcopy
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from nets import TinyNet, tiny_classifier
from scipy.special import expit

from mura_skorch import MuraClassifier, MuraEnsemble
from mura_skorch.calibration import fit_triage, patients_needed, view_disagreement
from mura_skorch.ensemble import load_model
from mura_skorch.models.serialization import check_operating_point
from mura_skorch.report import collect_predictions, write_report

LOOK = "look yourself"


# --- the promise -----------------------------------------------------------------------------


def drawn_studies(rng, n_patients, *, share=0.4):
    """Return studies of patients with one to three each, alike within a patient.

    Patients with more studies are harder, so that studies count unequally.
    """
    n_studies = rng.integers(1, 4, n_patients)
    patient = np.repeat(np.arange(n_patients), n_studies)
    own = np.repeat(rng.normal(0, 0.5 + 0.5 * n_studies), n_studies)
    label = rng.random(len(patient)) < share
    score = expit(3 * label - 1.5 + own + 0.3 * rng.normal(size=len(patient)))
    return pd.DataFrame(
        {
            "patient": patient,
            "study_type": np.array(["XR_HAND", "XR_WRIST"])[rng.integers(0, 2, len(patient))],
            "label": label.astype(int),
            "score": score,
            "key": [f"{study}" for study in range(len(patient))],
        }
    )


def fitted_on(table, **settings):
    columns = ("label", "score", "study_type", "patient", "key")
    return fit_triage(*(table[name] for name in columns), **settings)


def one_of_each_patient(table, rng):
    shuffled = table.iloc[rng.permutation(len(table))]
    return shuffled.drop_duplicates(["patient", "study_type", "label"])


def error_rates(found, table):
    """Return the share of wrong answers by study type and label, and of how many studies."""
    answer = found.decide(table["score"], table["study_type"])
    wrong = np.where(table["label"] == 1, answer == "normal", answer == "abnormal")
    groups = pd.Series(wrong, table.index).groupby([table["study_type"], table["label"]])
    return groups.mean(), groups.size()


@pytest.mark.slow
@pytest.mark.parametrize(("error_rate", "share_later"), [(0.1, 0.4), (0.05, 0.1)])
def test_error_rates_over_200_draws_of_local_patients_are_those_promised(error_rate, share_later):
    rng = np.random.default_rng(0)
    differences, variances, rates, looks = [], [], [], []
    for _ in range(200):
        found = fitted_on(drawn_studies(rng, 200), error_rate=error_rate)
        later = one_of_each_patient(drawn_studies(rng, 600, share=share_later), rng)
        reached, n_later = error_rates(found, later)
        n = pd.Series(
            {
                (name, label): own.n_abnormal if label else own.n_normal
                for name, own in found.limits.items()
                for label in (0, 1)
            }
        ).reindex(reached.index)
        # Vovk 2013: given the local studies the rate is beta(k, n + 1 - k) distributed.
        k = n.map(lambda n: math.floor((n + 1) * Fraction(str(error_rate))))
        expected = k / (n + 1)
        spread = k * (n + 1 - k) / ((n + 1) ** 2 * (n + 2)) + expected * (1 - expected) / n_later
        differences.append(reached - expected)
        variances.append(spread)
        rates.append(reached)
        looks.append((found.decide(later["score"], later["study_type"]) == LOOK).mean())
    standard_error = np.sqrt(pd.concat(variances, axis=1).sum(axis=1)) / 200
    assert (pd.concat(differences, axis=1).mean(axis=1).abs() < 3.5 * standard_error).all()
    assert (pd.concat(rates, axis=1).mean(axis=1) < error_rate + 3.5 * standard_error).all()
    assert 0.1 < np.mean(looks) < 0.9, "the promise is not kept by leaving everything to a reader"


@pytest.mark.filterwarnings("ignore:WARNING. your conformalization:UserWarning")
def test_limits_are_those_of_mapie():
    # It gets scores: MAPIE 1.6 refuses a classifier of tables, which it tries on an array of zeros.
    from mapie.classification import SplitConformalClassifier

    rng = np.random.default_rng(1)
    table = pd.DataFrame({"patient": range(300), "key": range(300), "study_type": "XR_HAND"})
    table = table.assign(label=rng.integers(0, 2, 300))
    table["score"] = expit(table["label"] - 0.5 + rng.normal(size=300))
    for error_rate in (0.02, 0.05, 0.1, 0.2):
        (own,) = fitted_on(table, error_rate=error_rate).limits.values()
        assert own.normal_below < own.abnormal_above, "limits that overlap are moved"
        for label, limit in ((1, own.normal_below), (0, own.abnormal_above)):
            score = np.sort(table["score"][table["label"] == label])
            conformal = SplitConformalClassifier(
                GivenScores(), confidence_level=1 - error_rate, prefit=True
            ).conformalize(score[:, None], np.full(len(score), label))
            _, sets = conformal.predict_set(score[:, None])
            inside = score[sets[:, label, 0]]
            assert limit == (inside.min() if label else inside.max())


class GivenScores:
    """A classifier of scikit-learn's kind whose X are the probabilities."""

    classes_ = np.array([0, 1])

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return np.column_stack([1 - X[:, 0], X[:, 0]])

    def predict(self, X):
        return (X[:, 0] > 0.5).astype(int)

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.parametrize("error_rate", [0.01, 0.05, 0.07, 0.1, 0.15, 0.29, 0.3, 0.5, 0.9])
def test_patients_needed_is_the_least_number_that_can_keep_the_promise(error_rate):
    rate = Fraction(str(error_rate))
    n = patients_needed(error_rate)
    assert math.ceil((n + 1) * (1 - rate)) <= n
    assert math.ceil(n * (1 - rate)) > n - 1


# --- limits ----------------------------------------------------------------------------------


@pytest.fixture
def local():
    return drawn_studies(np.random.default_rng(2), 150)


def test_order_of_studies_changes_nothing(local):
    assert fitted_on(local[::-1]) == fitted_on(local)


def test_further_studies_of_a_patient_do_not_count(local):
    again = pd.concat([local, local.assign(key="again" + local["key"])])
    counts = [
        [(own.n_normal, own.n_abnormal) for own in fitted_on(table).limits.values()]
        for table in (local, again)
    ]
    assert counts[0] == counts[1]
    alike = local.drop_duplicates(["patient", "study_type", "label"])
    assert fitted_on(pd.concat([alike, alike.assign(key="again" + alike["key"])])) == fitted_on(
        alike
    )


def test_rising_change_of_the_scores_changes_no_answer(local):
    later = drawn_studies(np.random.default_rng(3), 100)
    answers = [
        fitted_on(table.assign(score=change(table["score"])))
        .decide(change(later["score"]), later["study_type"])
        .tolist()
        for table, change in ((local, lambda p: p), (local, lambda p: p**3 / 2))
    ]
    assert answers[0] == answers[1]


def test_higher_promise_leaves_more_to_a_reader(local):
    later = drawn_studies(np.random.default_rng(3), 100)
    left = [
        (fitted_on(local, error_rate=rate).decide(later["score"], later["study_type"]) == LOOK)
        for rate in (0.3, 0.1, 0.05)
    ]
    assert (left[0] <= left[1]).all()
    assert (left[1] <= left[2]).all()
    assert left[0].sum() < left[2].sum()


@pytest.mark.parametrize(("threshold", "limit"), [(0.5, 0.5), (0.1, 0.25), (0.95, 0.75)])
def test_model_better_than_the_promise_leaves_nothing_to_a_reader(threshold, limit):
    table = pd.DataFrame({"score": [0.1, 0.2, 0.25, 0.75, 0.8, 0.9], "label": [0] * 3 + [1] * 3})
    table = table.assign(study_type="XR_HAND", patient=range(6), key=range(6))
    found = fitted_on(table, error_rate=0.25, threshold=threshold)
    own = found.limits["XR_HAND"]
    assert own.normal_below == own.abnormal_above == limit
    answers = found.decide([0.2, 0.85], ["XR_HAND"] * 2).tolist()
    assert answers == ["normal", "abnormal"]


def test_study_types_without_limits_are_left_to_a_reader(local):
    rows = local["study_type"] == "XR_HAND"
    few = pd.concat([local[~rows], local[rows & (local["label"] == 1)]])
    found = fitted_on(few)
    for name, reason in (
        ("XR_HAND", "too few local patients of this type"),
        ("XR_ELBOW", "no local studies of this type"),
    ):
        (answer,) = found.decide([1e-6], [name])
        assert answer == LOOK
        assert found.reason(answer, name) == reason
    assert found.reason("normal", "XR_WRIST") is None
    said = " ".join(found.describe())
    n_abnormal = few["patient"][few["study_type"] == "XR_HAND"].nunique()
    assert f"XR_HAND (0 normal, {n_abnormal} abnormal) to a reader: 5 % needs 19" in said
    assert "Another hospital" in said


def test_local_studies_of_too_few_patients_are_refused_with_the_number_needed(local):
    with pytest.raises(ValueError, match=r"at least 19 patients with normal and 19 .*XR_HAND \("):
        fitted_on(local[:30])
    with pytest.raises(ValueError, match="at least 99 patients"):
        fitted_on(local, error_rate=0.01)


@pytest.mark.parametrize("error_rate", [0, 1, -0.1, 5, float("nan"), "0.05", True, None])
def test_error_rates_that_promise_nothing_are_refused(local, error_rate):
    with pytest.raises(ValueError, match="an error rate above 0 and below 1"):
        fitted_on(local, error_rate=error_rate)


def test_range_of_one_draw_is_that_of_simulated_draws():
    found = fitted_on(drawn_studies(np.random.default_rng(4), 300), error_rate=0.1)
    rng = np.random.default_rng(5)
    rates = np.sort(rng.random((4000, 59)), axis=1)[:, 5]  # the sixth of 59 uniform scores
    np.testing.assert_allclose(found.spread(59), np.quantile(rates, [0.025, 0.975]), atol=0.01)


def test_disagreement_ignores_unreadable_views():
    views = [np.array([0.2, np.nan, 0.5]), np.array([0.7]), np.array([np.nan, 0.4])]
    np.testing.assert_allclose(view_disagreement(views), [0.3, np.nan, np.nan])


# --- with a model ----------------------------------------------------------------------------

RATE = 0.4  # two patients of each label are enough


@pytest.fixture(scope="module")
def label(fitted, valid):
    """Labels that the model finds but for two studies."""
    score = fitted.predict_proba(valid)[:, 1]
    middles = valid.assign(score=score).groupby("study_type")["score"].transform("median")
    label = (score > middles).to_numpy(dtype=int)
    label[[0, -1]] ^= 1
    return label


@pytest.fixture(scope="module")
def careful(fitted, valid, label):
    return fitted.triage(valid, label, error_rate=RATE)


def test_triage_leaves_the_model_and_its_decisions_as_they_are(fitted, careful, valid):
    assert fitted.triage_ is None
    with pytest.raises(ValueError, match="call triage with labelled local studies"):
        fitted.predict_triage(valid)
    assert np.array_equal(careful.predict_proba(valid), fitted.predict_proba(valid))
    assert careful.predict(valid).tolist() == fitted.predict(valid).tolist()
    assert careful.describe_operating_point().endswith("; triage at an error rate of 40 %")


def test_answers_are_those_of_the_limits_and_come_with_signs_of_doubt(careful, train, valid):
    found = careful.predict_triage(valid)
    score = careful.predict_proba(valid)[:, 1]
    assert found.index.equals(valid.index)
    assert found["triage"].tolist() == careful.triage_.decide(score, valid["study_type"]).tolist()
    assert found["probability"].tolist() == score.tolist()
    spans = [np.ptp(own) if len(own) > 1 else np.nan for own in careful.predict_view_proba(valid)]
    np.testing.assert_allclose(found["view_disagreement"], spans)
    assert found["training_percentile"].isna().all()
    measured = deepcopy(careful).measure_training(train).predict_triage(valid)
    assert measured["training_percentile"].between(0, 100).all()
    assert measured["triage"].equals(found["triage"])
    twice = valid.set_axis([0] * len(valid))
    assert careful.predict_triage(twice)["triage"].tolist() == found["triage"].tolist()
    unseen = valid.assign(study_type="XR_FOOT")
    with pytest.warns(UserWarning, match="training never saw XR_FOOT"):
        assert (careful.predict_triage(unseen)["triage"] == LOOK).all()


def test_saved_and_pickled_models_give_the_same_answers(careful, valid, tmp_path):
    careful.save(tmp_path)
    loaded = MuraClassifier.load(tmp_path, module=TinyNet)
    expected = careful.predict_triage(valid)
    for model in (loaded, pickle.loads(pickle.dumps(careful))):
        assert model.triage_ == careful.triage_
        pd.testing.assert_frame_equal(model.predict_triage(valid), expected)
    saved = (tmp_path / "model.json").read_text()
    assert not any(patient in saved for patient in valid["patient"].astype(str))


def test_ensemble_has_limits_of_its_own(fitted, careful, valid, label, tmp_path):
    ensemble = MuraEnsemble.of([careful, fitted])
    assert ensemble.triage_ is None
    careful_one = ensemble.triage(valid, label, error_rate=RATE)
    careful_one.save(tmp_path)
    loaded = load_model(tmp_path, module=TinyNet)
    pd.testing.assert_frame_equal(loaded.predict_triage(valid), careful_one.predict_triage(valid))
    assert loaded.triage_ == careful_one.triage_


def test_whatever_changes_the_probabilities_forgets_the_limits(careful, train, valid, label):
    assert careful.recalibrate(valid, label).triage_ is None
    again = deepcopy(careful)
    again.set_params(max_epochs=1).partial_fit(train)
    assert again.triage_ is None


def test_patients_of_the_training_are_refused(fitted, train, valid, label):
    with pytest.raises(
        ValueError, match="that the model was not trained on, got .* of the training"
    ):
        fitted.triage(train, error_rate=RATE)
    with pytest.raises(ValueError, match="not trained on"):
        MuraEnsemble.of([fitted]).triage(train, error_rate=RATE)
    with pytest.raises(ValueError, match="expected a column patient"):
        fitted.triage(valid.drop(columns="patient"), label, error_rate=RATE)


def test_types_of_too_few_patients_are_named(fitted, valid, label):
    rows = (valid["study_type"] == "XR_HAND").to_numpy() | (label == 1)
    with pytest.warns(UserWarning, match=r"every study of XR_WRIST \(0 normal"):
        found = fitted.triage(valid[rows], label[rows], error_rate=RATE)
    assert set(found.triage_.closed_types) == {"XR_WRIST"}


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        {"error_rate": 0.05},
        {"error_rate": 2.0},
        {"error_rate": "0.05"},
        {"limits": [1]},
        {"limits": {"XR_HAND": None}},
        {"limits": {"XR_HAND": {"normal_below": 0.2}}},
        *(
            {"limits": {"XR_HAND": dict(normal_below=ends[0], abnormal_above=ends[1], **n)}}
            for ends, n in (
                ((0.5, 0.4), {"n_normal": 9, "n_abnormal": 9}),
                ((None, 0.4), {"n_normal": 9, "n_abnormal": 9}),
                ((0.1, float("nan")), {"n_normal": 9, "n_abnormal": 9}),
                ((0.1, 0.4), {"n_normal": -1, "n_abnormal": 9}),
                ((0.1, 0.4), {"n_normal": 9, "n_abnormal": 9, "code": "x"}),
            )
        ),
        {"chosen_on": {"XR_HAND": 1}},
        {"further": 1},
    ],
    ids=str,
)
def test_triages_that_were_never_saved_are_refused(careful, wrong):
    right = json.loads(json.dumps(careful.operating_point()))
    check_operating_point(right)
    changed = right["triage"] | wrong if isinstance(wrong, dict) and len(right["triage"]) else wrong
    if wrong == {"error_rate": 0.05}:
        changed = wrong  # all else is missing
    with pytest.raises(ValueError, match="its triage is"):
        check_operating_point(right | {"triage": changed})


# --- in a report -----------------------------------------------------------------------------


@pytest.mark.slow
def test_report_shows_promise_share_and_error_rates_and_what_breaks_them(
    careful, train, valid, tmp_path
):
    later = train.assign(patient="later " + train["patient"])
    inputs = collect_predictions(careful, later, n_cases=0)
    expected = careful.predict_triage(later)
    assert inputs.predictions["triage"].tolist() == expected["triage"].tolist()
    assert not any("triage" in alert for alert in inputs.alerts)
    write_report(tmp_path, inputs)
    page = (tmp_path / "report.html").read_text()
    assert '<h2 id="triage-title">Triage</h2>' in page
    assert "What breaks the promise:</strong> The promise holds for patients like the local" in page
    scores = pd.read_csv(tmp_path / "triage.csv").set_index("study_type")
    assert scores.loc["overall", "n_look_yourself"] == (expected["triage"] == LOOK).sum()
    assert f"{scores.loc['overall', 'look_yourself']:.3f}".lstrip("0") in page
    assert "normal below" in page
    assert "view_disagreement" in (tmp_path / "predictions.csv").read_text()


def test_limits_chosen_on_the_scored_studies_are_noticed(careful, valid):
    alerts = collect_predictions(careful, valid, n_cases=0).alerts
    assert any("the limits of the triage were chosen on the studies" in text for text in alerts)


def test_untriaged_models_and_reports_are_as_before(fitted, valid):
    predictions = collect_predictions(fitted, valid, n_cases=0).predictions
    assert not {"triage", "triage_error_rate", "view_disagreement"} & set(predictions)
    assert tiny_classifier().triage_ is None
