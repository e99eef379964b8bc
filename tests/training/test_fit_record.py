"""Facts about a fit."""

from nets import TinyNet, tiny_classifier

from mura_skorch import MuraClassifier
from mura_skorch.training.fit_record import FitRecord


def test_record_survives_a_dict_with_more_and_with_less():
    record = FitRecord(seed=3, study_types=["XR_HAND"], digests={"validation": "x"})
    assert FitRecord.from_dict(record.to_dict() | {"params": {}}) == record
    assert FitRecord.from_dict({"seed": 3}) == FitRecord(seed=3)


def test_attributes_of_an_estimator_are_those_of_its_record(fitted):
    record = fitted.record_
    assert (fitted.seed_, fitted.study_types_) == (record.seed, record.study_types)
    assert (fitted.note_, fitted.run_id_, fitted.interrupted_) == (record.note, None, False)


def test_update_replaces_the_record_and_leaves_the_old_one_alone():
    net = tiny_classifier().initialize()
    before = net.record_
    net.run_id_ = "abc"
    assert (net.record_.run_id, before.run_id) == ("abc", None)
    assert net.record_.seed == before.seed == 0


def test_unfitted_estimator_has_no_record():
    assert not hasattr(MuraClassifier(), "study_types_")


def test_saved_model_carries_the_record(fitted, tmp_path):
    fitted.save(tmp_path)
    assert MuraClassifier.load(tmp_path, module=TinyNet).record_ == fitted.record_
