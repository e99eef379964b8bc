import numpy as np
import pytest
import torch

from mura_skorch.models import StudyTypeBCE

# MURA v1.1's training part: images negative/positive, studies normal/abnormal, and the published
# weights of the positive term counting images and studies.
PUBLISHED = {
    "XR_ELBOW": (2925, 2006, 1094, 660, 0.5932, 0.6237),
    "XR_FINGER": (3138, 1968, 1280, 655, 0.6146, 0.6615),
    "XR_FOREARM": (1164, 661, 590, 287, 0.6378, 0.6727),
    "XR_HAND": (4059, 1484, 1497, 521, 0.7323, 0.7418),
    "XR_HUMERUS": (673, 599, 321, 271, 0.5291, 0.5422),
    "XR_SHOULDER": (4211, 4168, 1364, 1457, 0.5026, 0.4835),
    "XR_WRIST": (5765, 3987, 2134, 1326, 0.5912, 0.6168),
}


def mura_counts():
    """Return type index, label and number of views of studies that add up to MURA's counts."""
    rows = []
    for code, (neg, pos, normal, abnormal, *_) in enumerate(PUBLISHED.values()):
        for label, n_views, n_studies in ((0, neg, normal), (1, pos, abnormal)):
            views = np.full(n_studies, n_views // n_studies)
            views[: n_views % n_studies] += 1
            rows.append((np.full(n_studies, code), np.full(n_studies, label), views))
    return (np.concatenate(column) for column in zip(*rows, strict=True))


@pytest.mark.parametrize(("count", "column"), [("views", 4), ("studies", 5)])
def test_weights_of_mura_are_the_published_ones(count, column):
    loss = StudyTypeBCE(count=count)
    loss.fit_weights(*mura_counts(), list(PUBLISHED))
    expected = [row[column] for row in PUBLISHED.values()]
    assert loss.class_weight[:-1, 1].tolist() == pytest.approx(expected, abs=5e-5)
    assert loss.class_weight.sum(dim=1).tolist() == pytest.approx([1] * 8)


def fitted_loss(level):
    loss = StudyTypeBCE(level=level)
    study_type, label = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    loss.fit_weights(study_type, label, np.array([3, 1, 1, 4]), ["A", "B"])
    return loss


def test_study_level_is_the_papers_formula_on_the_mean_probability():
    loss = fitted_loss("study")
    p, y, w1 = torch.tensor([0.2, 0.9]), torch.tensor([1.0, 0.0]), torch.tensor([0.75, 0.2])
    expected = (-w1 * y * p.log() - (1 - w1) * (1 - y) * (1 - p).log()).mean()
    mask = torch.ones(2, 1, dtype=torch.bool)
    found = loss((p.logit(), p.logit()), y, torch.tensor([0, 1]), mask)
    torch.testing.assert_close(found, expected)


def test_view_level_sums_over_views_and_divides_by_studies():
    loss = fitted_loss("view")
    logits, y = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([1.0, 0.0])
    mask = torch.tensor([[True, True], [True, False]])
    p = torch.sigmoid(logits)
    expected = -(0.75 * p[0].log() + 0.75 * p[1].log() + 0.8 * (1 - p[2]).log()) / 2
    torch.testing.assert_close(loss((None, logits), y, torch.tensor([0, 1]), mask), expected)


def test_view_level_average_does_not_depend_on_batching():
    loss = fitted_loss("view")
    logits, mask = torch.randn(5), torch.tensor([[True, True, True], [True, True, False]])
    y, study_type = torch.tensor([1.0, 0.0]), torch.tensor([0, 1])
    whole = loss((None, logits), y, study_type, mask)
    first = loss((None, logits[:3]), y[:1], study_type[:1], mask[:1])
    second = loss((None, logits[3:]), y[1:], study_type[1:], mask[1:])
    torch.testing.assert_close(whole, (first + second) / 2)


@pytest.mark.parametrize("logit", [-500.0, 500.0])
def test_saturated_predictions_have_a_finite_loss(logit):
    loss = fitted_loss("study")
    mask = torch.ones(2, 1, dtype=torch.bool)
    logits = torch.tensor([logit, logit], requires_grad=True)
    value = loss((logits, logits), torch.tensor([1.0, 0.0]), torch.tensor([0, 1]), mask)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


def test_unseen_type_is_weighted_evenly():
    assert fitted_loss("study").class_weight[-1].tolist() == [0.5, 0.5]


def test_type_with_one_class_is_weighted_evenly_with_a_warning():
    loss = StudyTypeBCE()
    with pytest.warns(UserWarning, match="every training study of B is abnormal"):
        loss.fit_weights(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([1, 3, 1]), ["A", "B"])
    assert loss.class_weight.tolist() == [[0.75, 0.25], [0.5, 0.5], [0.5, 0.5]]


def test_type_without_a_study_in_a_later_count_keeps_its_weights():
    loss = fitted_loss("study")
    a, b, unseen = loss.class_weight.tolist()
    loss.take_study_types(["A", "B"], ["A", "AA", "B"])
    assert loss.class_weight.tolist() == [a, [0.5, 0.5], b, unseen]
    loss.fit_weights(np.array([1, 1]), np.array([0, 1]), np.array([1, 3]), ["A", "AA", "B"])
    assert loss.class_weight.tolist() == [a, [0.75, 0.25], b, unseen]


def test_loss_is_least_where_the_logit_is_shifted_by_the_log_of_the_ratio_of_the_weights():
    loss = StudyTypeBCE(count="studies")
    label = torch.tensor([1.0] * 26 + [0.0] * 74)
    loss.fit_weights(np.zeros(100, int), label.numpy(), np.ones(100, int), ["A"])
    normal, abnormal = loss.class_weight[0].tolist()
    shifted = np.log(0.26 / 0.74) + np.log(abnormal / normal)
    logits = torch.full((100,), shifted, requires_grad=True)
    loss((logits, logits), label, torch.zeros(100, dtype=torch.long), None).backward()
    assert logits.grad.sum().item() == pytest.approx(0, abs=1e-7)


def test_weights_travel_with_the_state_whatever_their_number():
    other = StudyTypeBCE()
    other.load_state_dict(fitted_loss("study").state_dict())
    assert torch.equal(other.class_weight, fitted_loss("study").class_weight)


@pytest.mark.parametrize("wrong", [{"level": "image"}, {"count": "patients"}])
def test_unknown_setting_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        StudyTypeBCE(**wrong)
