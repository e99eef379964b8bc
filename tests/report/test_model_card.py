import re

import pytest
import torch
from nets import TinyNet, tiny_classifier

from mura_skorch import MuraClassifier
from mura_skorch.report import ReportInputs, write_report
from mura_skorch.report.model_card import describe_model, join_descriptions

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def unusual(train):
    """A classifier with another optimizer, loss and augmentation than the default ones."""
    return tiny_classifier(
        optimizer=torch.optim.SGD,
        criterion=torch.nn.BCEWithLogitsLoss,
        module__augment=None,
        max_epochs=1,
        batch_size=4,
        train_split=None,
    ).fit(train)


def header_of(card):
    """Return the metadata as model hubs read them."""
    hub = pytest.importorskip("huggingface_hub")
    return hub.ModelCard(card).data


def test_card_describes_the_training_that_was_run(fitted, unusual):
    usual, own = " ".join(describe_model(fitted)), " ".join(describe_model(unusual))
    assert "Training: optimizer Adam; learning rate 0.001;" in usual
    assert "images of 32 x 32 px; augmentation Augment(degrees=10" in usual
    assert re.search(r"Training: 2 epochs were run for XR_HAND, XR_WRIST; the weights are", usual)
    assert "no patient is in both the training and the validation part" in usual
    assert "verbose" not in usual
    assert "Training: optimizer SGD;" in own
    assert "batches of 4 studies" in own
    assert "; no augmentation; no validation part;" in own
    assert "1 epochs were run for XR_HAND, XR_WRIST." in own
    assert "no patient is in both" not in own


def test_loss_without_class_weights_is_not_said_to_have_them(fitted, unusual):
    assert "class weights" not in " ".join(describe_model(unusual))
    told = " ".join(describe_model(fitted))
    assert "Loss: class weights of the abnormal and the normal term" in told
    weights = dict(zip(fitted.study_types_, fitted.criterion_.class_weight.tolist(), strict=False))
    normal, abnormal = weights["XR_HAND"]
    assert f"XR_HAND {abnormal:.3f} and {normal:.3f}".replace("0.", ".") in told


def test_loaded_model_is_described_as_the_fitted_one(unusual, tmp_path):
    unusual.save(tmp_path / "model")
    loaded = MuraClassifier.load(tmp_path / "model", module=TinyNet)
    assert describe_model(loaded) == describe_model(unusual)


def test_sections_of_the_card_hold_what_the_model_says(predictions, unusual, tmp_path):
    write_report(tmp_path, ReportInputs(predictions, model=describe_model(unusual)))
    card = (tmp_path / "model_card.md").read_text()
    sections = dict(re.findall(r"^## (.*)\n\n((?:- .*\n?)+)", card, re.MULTILINE))
    assert "BCEWithLogitsLoss" in sections["Loss"]
    assert sections["Training"].startswith("- Optimizer SGD;")
    assert "Network: TinyNet" in sections["Model"]
    assert "lass weights" not in card
    assert "MURA" not in card.replace("mura_skorch", "")


def test_reference_standard_of_the_authors_replaces_the_unknown_source(predictions, tmp_path):
    facts = {"reference_standard": "CT within a week.", "annotators": "Two radiologists."}
    write_report(tmp_path, predictions, study_facts=facts)
    labels = (tmp_path / "model_card.md").read_text().partition("## Labels")[2].partition("##")[0]
    assert "Reference standard: CT within a week." in labels
    assert "Annotators: Two radiologists." in labels
    assert "not stated" not in labels


def test_header_is_read_by_model_hubs(predictions, tmp_path):
    scores = write_report(
        tmp_path,
        predictions.assign(note="phantoms: no clinical meaning"),
        about={"Data": 'a "quoted": name'},
        study_facts={"licence": "Apache-2.0"},
        title="Wrists & hands: #1\x7f",
    )
    data = header_of((tmp_path / "model_card.md").read_text())
    assert data.license == "apache-2.0"
    assert data.library_name == "mura_skorch"
    assert "radiography" in data.tags
    assert data.model_name == r"Wrists & hands: #1\x7f"
    results = {result.metric_type: result for result in data.eval_results}
    assert results["cohen_kappa"].metric_value == pytest.approx(scores["kappa"].iloc[-1], abs=1e-4)
    assert results["roc_auc"].metric_value == pytest.approx(scores["auroc"].iloc[-1], abs=1e-4)
    assert results["f1"].dataset_name == 'a "quoted": name (phantoms: no clinical meaning)'
    assert results["f1"].task_type == "image-classification"


def test_header_leaves_out_undefined_figures_and_names_other_licences(predictions, tmp_path):
    facts = {"licence": "Research use only, see contract"}
    write_report(tmp_path, predictions.assign(label=0), study_facts=facts)
    data = header_of((tmp_path / "model_card.md").read_text())
    assert data.license == "other"
    assert data.license_name == "research-use-only-see-contract"
    assert "roc_auc" not in {result.metric_type for result in data.eval_results}


def test_header_states_no_licence_that_the_authors_do_not_state(predictions, tmp_path):
    write_report(tmp_path, predictions)
    assert header_of((tmp_path / "model_card.md").read_text()).license is None


def test_card_of_a_model_with_triage_says_what_it_is_for(predictions, tmp_path):
    write_report(tmp_path / "a", ReportInputs(predictions, model=["Triage: of abnormal studies."]))
    text = (tmp_path / "a" / "model_card.md").read_text()
    assert "The triage of this model is for research, too." in text
    write_report(tmp_path / "b", predictions)
    assert "triage" not in (tmp_path / "b" / "model_card.md").read_text().lower()


def test_sentences_of_several_models_that_differ_in_the_type_are_one():
    def told(name, weights, epoch):
        return [
            "Network: Tiny.",
            f"Trained on the study types {name}.",
            f"Loss: class weights of this loss, from the training part: {name} {weights}. They",
            f"Training: 3 epochs were run for {name}; the weights are those of epoch {epoch}.",
        ]

    joined = join_descriptions(
        {
            "XR_HAND": told("XR_HAND", ".40 and .60", 2),
            "XR_TOE": told("XR_TOE", ".5 and 1.5", 2),
            "XR_WRIST": told("XR_WRIST", ".7 and .3", 3),
        }
    )
    assert joined == [
        "Network: Tiny.",
        "Trained on the study types XR_HAND, XR_TOE, XR_WRIST.",
        "Loss: class weights of this loss, from the training part: XR_HAND .40 and .60, "
        "XR_TOE .5 and 1.5, XR_WRIST .7 and .3. They",
        "Training: 3 epochs were run for XR_HAND, XR_TOE; the weights are those of epoch 2.",
        "Training: 3 epochs were run for XR_WRIST; the weights are those of epoch 3.",
    ]
