import numpy as np
import pytest

from mura_skorch.evaluation import choice_optimism

RNG = np.random.default_rng(0)
LABEL = np.array([0, 1] * 100)


def settings(n, quality=0.0):
    """Return probabilities of settings that are equally good."""
    noise = RNG.normal(0, 0.2, (n, len(LABEL)))
    return np.clip(0.5 + quality * (LABEL - 0.5) + noise, 0.01, 0.99)


@pytest.mark.parametrize("by", ["log_loss", "kappa"])
def test_best_of_settings_that_know_nothing_is_corrected_to_chance(by):
    draws = [choice_optimism(LABEL, settings(40), by=by, n_resamples=50) for _ in range(20)]
    mean = sum(draws) / len(draws)
    assert mean.loc[by, "optimism"] > 0
    assert abs(mean.loc["kappa", "corrected"]) < 0.05
    if by == "kappa":
        assert mean.loc["kappa", "best"] > 0.1


def test_a_single_setting_is_not_optimistic():
    found = choice_optimism(LABEL, settings(1, quality=0.4))
    assert np.abs(found["optimism"]).max() < 0.02


def test_the_more_settings_the_more_optimistic():
    scores = settings(80)
    few, many = (choice_optimism(LABEL, scores[:n], by="kappa") for n in (4, 80))
    assert many.loc["kappa", "optimism"] > few.loc["kappa", "optimism"]


def test_a_setting_that_is_better_by_far_is_not_corrected_away():
    scores = np.vstack([settings(39), settings(1, quality=0.8)])
    found = choice_optimism(LABEL, scores, by="kappa")
    assert found.loc["kappa", "best"] > 0.8
    assert abs(found.loc["kappa", "optimism"]) < 0.03


def test_order_of_settings_does_not_matter():
    scores = settings(10)
    one, other = choice_optimism(LABEL, scores), choice_optimism(LABEL, scores[::-1])
    assert one.equals(other)


def test_studies_of_one_patient_are_drawn_together():
    scores = settings(10)
    doubled = choice_optimism(
        np.repeat(LABEL, 2), np.repeat(scores, 2, axis=1), groups=np.repeat(np.arange(200), 2)
    )
    # Patients are sorted as texts, so that the resamples differ.
    expected = choice_optimism(LABEL, scores, groups=np.arange(200))
    np.testing.assert_allclose(doubled, expected)


def test_best_is_the_figure_of_the_setting_that_the_metric_chooses():
    right = np.where(LABEL == 1, 0.9, 0.1)
    sure = np.where(LABEL == 1, 0.99, 0.01)
    sure[:10] = 1 - sure[:10]
    found = choice_optimism(LABEL, np.stack([sure, right]))
    assert found.loc["kappa", "best"] == 1
    assert found.loc["log_loss", "best"] == pytest.approx(-np.log(0.9))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"by": "auroc"}, "by='log_loss' or by='kappa'"),
        ({"y_scores": np.full(4, 0.5)}, r"of shape \(n_settings, n_studies\)"),
        ({"y_scores": np.full((2, 3), 0.5)}, "one entry per study"),
        ({"y_scores": np.full((2, 4), 1.5)}, r"probabilities in \[0, 1\]"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    arguments = {"y_true": [0, 1, 0, 1], "y_scores": np.full((2, 4), 0.5)} | changes
    with pytest.raises(ValueError, match=message):
        choice_optimism(**arguments)
