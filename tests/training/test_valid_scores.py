import pickle

import numpy as np
import pandas as pd
from nets import TinyNet, tiny_classifier

from mura_skorch import MuraClassifier, ValidStudies
from mura_skorch.evaluation import prediction_table, score_predictions
from mura_skorch.studies import explode_views


def scores_of(net, studies):
    y_score = net.predict_proba(studies)[:, 1]
    return score_predictions(prediction_table(studies, y_score, threshold=net.threshold_))


def test_scores_are_those_of_the_restored_weights_on_the_validation_part(train, valid):
    net = tiny_classifier(train_split=ValidStudies(valid), lr=1e-2, max_epochs=3).fit(train)
    pd.testing.assert_frame_equal(net.scores_, scores_of(net, valid), check_dtype=False)
    assert net.valid_predictions_["study"].tolist() == valid["study"].tolist()
    best = np.argmin(net.history[:, "valid_loss"])
    overall = net.scores_.set_index("study_type").loc["overall"]
    np.testing.assert_allclose(overall["kappa"], net.history[int(best), "valid_kappa"])


def test_scores_are_at_the_threshold_that_its_rule_chose(train, valid):
    net = tiny_classifier(train_split=ValidStudies(valid), threshold="youden").fit(train)
    pd.testing.assert_frame_equal(net.scores_, scores_of(net, valid), check_dtype=False)
    assert set(net.valid_predictions_["threshold"]) == {net.threshold_}


def test_scores_survive_saving_and_pickling(train, valid, tmp_path):
    net = tiny_classifier(train_split=ValidStudies(valid)).fit(train)
    net.save(tmp_path)
    loaded = MuraClassifier.load(tmp_path, module=TinyNet, callbacks__mlflow=None)
    for other in (loaded, pickle.loads(pickle.dumps(net))):
        pd.testing.assert_frame_equal(other.scores_, net.scores_)
    assert loaded.valid_predictions_ is None


def test_fit_without_a_validation_part_has_no_scores(train, valid):
    net = tiny_classifier(train_split=ValidStudies(valid)).fit(train)
    assert net.scores_ is not None
    net.set_params(train_split=None).fit(train)
    assert net.scores_ is None
    assert net.valid_predictions_ is None


def test_scores_of_single_views_say_so(train, valid):
    net = tiny_classifier(train_split=ValidStudies(explode_views(valid))).fit(explode_views(train))
    assert set(net.scores_["level"]) == {"view"}
    assert net.scores_["n"].iloc[-1] == valid["views"].map(len).sum()


def test_finished_checkpoint_brings_its_scores_back(train, valid, tmp_path):
    settings = {"train_split": ValidStudies(valid), "checkpoint_path": tmp_path / "fit"}
    first = tiny_classifier(random_state=0, **settings).fit(train)
    again = tiny_classifier(random_state=0, **settings).fit(train)
    pd.testing.assert_frame_equal(again.scores_, first.scores_)
