import re
from dataclasses import replace

import pandas as pd
import pytest
from nets import TinyNet

from mura_skorch import MuraClassifier
from mura_skorch.ensemble import MuraEnsemble
from mura_skorch.evaluation import ExternalValidation, evaluate
from mura_skorch.report import (
    collect_data,
    collect_predictions,
    join_data,
    read_report,
    write_report,
)
from mura_skorch.report.data_flow import NOT_RECORDED, data_flow_page

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def section(folder):
    page = (folder / "report.html").read_text()
    return re.search(r'<section id="what-went-in".*?</section>', page, re.DOTALL)[0]


@pytest.fixture(scope="module")
def loaded(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    fitted.save(folder)
    return MuraClassifier.load(folder, module=TinyNet, callbacks__mlflow=None)


@pytest.fixture(scope="module")
def folder(fitted, valid, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, collect_predictions(fitted, valid, n_cases=0))
    return folder


def test_report_shows_characteristics_digests_and_sample_size(folder, fitted, valid):
    found = section(folder)
    parts = fitted.record_.fitted_on["parts"]
    for text in ("training</th>", "validation</th>", "scored here</th>", "digest of studies"):
        assert text in found
    assert parts["training"]["digest"] in found
    assert "Training and validation part share none of their" in found
    assert "share none with the" in found
    assert "counted in the process of the fit" in found
    assert "studies for ±.05" in found
    assert (folder / "flow.png").is_file()


def test_scored_patients_of_the_fit_are_counted(fitted, train, valid, tmp_path):
    some = pd.concat([train[:1], valid])
    write_report(tmp_path, collect_predictions(fitted, some, n_cases=0))
    assert "share 1 with the" in section(tmp_path)
    assert "The figures are too good." in section(tmp_path)


def test_loaded_model_says_that_patients_were_not_compared(loaded, valid, tmp_path):
    write_report(tmp_path, collect_predictions(loaded, valid, n_cases=0))
    found = section(tmp_path)
    assert "were not compared: a saved model holds no patient ids" in found
    assert "training</th>" in found
    assert NOT_RECORDED not in found


def test_table_of_the_fit_lets_a_loaded_model_count_shared_patients(loaded, train, valid):
    apart = collect_data(loaded, valid, train=train)["apart"]
    assert (apart["how"], apart["n_shared"]) == ("table", 0)
    some = pd.concat([train[:1], valid])
    assert collect_data(loaded, some, train=train)["apart"]["n_shared"] == 1


def test_table_of_another_digest_is_named_and_not_counted(loaded, train, valid, tmp_path):
    inputs = collect_predictions(loaded, valid, n_cases=0, train=train[1:])
    assert inputs.data["apart"] == {"how": "another table"}
    counted = collect_predictions(loaded, valid, n_cases=0, train=train).data
    assert join_data([counted, inputs.data])["apart"] == {"how": "another table"}
    write_report(tmp_path, inputs)
    assert "is another one, since their digests differ" in section(tmp_path)


def test_ids_of_another_hospital_are_compared_with_a_reservation(loaded, train, valid, tmp_path):
    some = pd.concat([train[:1], valid])
    inputs = collect_predictions(loaded, some, n_cases=0, train=train)
    write_report(tmp_path, inputs._replace(external=ExternalValidation()))
    found = section(tmp_path)
    assert "1 of the" in found
    assert "occurs among the" in found
    assert "Two hospitals may use one id for different patients" in found
    assert "The figures are too good." not in found


def test_model_without_a_record_says_so(loaded, valid, tmp_path):
    record = loaded.record_
    try:
        loaded.record_ = replace(record, fitted_on={})
        write_report(tmp_path, collect_predictions(loaded, valid, n_cases=0))
    finally:
        loaded.record_ = record
    assert NOT_RECORDED in section(tmp_path)
    assert "scored here</th>" in section(tmp_path)


def test_section_is_redrawn_without_the_model(folder, tmp_path):
    write_report(tmp_path, **read_report(folder))
    assert section(tmp_path) == section(folder)


def test_prediction_table_alone_describes_what_is_scored(predictions, tmp_path):
    table = predictions.assign(sex=["F", "M"] * 30, label=predictions["label"].astype("Int8"))
    table.loc[:9, "label"] = pd.NA
    write_report(tmp_path, table)
    found = section(tmp_path)
    assert "sex: F" in found
    assert NOT_RECORDED in found


def test_members_of_one_fit_are_counted_once(fitted, loaded, valid):
    assert len(collect_data(MuraEnsemble.of([fitted, loaded]), valid)["fits"]) == 1


def test_models_of_several_types_are_added_up(fitted, valid, tmp_path):
    one = collect_data(fitted, valid)
    other = {**one, "fits": [{**fit, "digest": "other"} for fit in one["fits"]]}
    joined = join_data([one, other])
    assert len(joined["fits"]) == 2
    inputs = collect_predictions(fitted, valid, n_cases=0)._replace(data=joined)
    write_report(tmp_path, inputs)
    assert "2 models were fitted on different studies" in section(tmp_path)
    assert join_data([one, None]) is None
    assert join_data([]) is None


@pytest.fixture
def two_models(fitted, valid):
    """Two models of the same patients: what `collect_data` returns for each, and predictions."""
    inputs = collect_predictions(fitted, valid, n_cases=0)
    other = {**inputs.data, "fits": [{**fit, "digest": "other"} for fit in inputs.data["fits"]]}
    second = inputs.predictions.assign(study=inputs.predictions["study"] + "b", study_type="XR_TOE")
    return [inputs.data, other], inputs._replace(
        predictions=pd.concat([inputs.predictions, second], ignore_index=True)
    )


def parts_of_flow(folder):
    """Return the row of patients in the table of characteristics, and the text of the section."""
    found = section(folder)
    row = re.search(r"<tr[^>]*>\s*<t[hd][^>]*>patients</t[hd]>.*?</tr>", found, re.DOTALL)[0]
    return re.findall(r"<td[^>]*>(.*?)</td>", row)[-3:], found


def test_patient_of_several_models_counts_once(two_models, fitted, valid, tmp_path):
    data, inputs = two_models
    n_scored = valid["patient"].nunique()
    training, validation = fitted.trained_patients_, fitted.validated_patients_
    own = {"training": training, "validation": validation, "scored": set(valid["patient"])}
    swapped = {**own, "training": validation, "validation": training | {"another"}}
    joined = join_data(data, [own, swapped])
    write_report(tmp_path, inputs._replace(data=joined))
    cells, found = parts_of_flow(tmp_path)
    n_all = len(training | validation)
    assert cells == [str(n_all), str(n_all + 1), str(n_scored)]
    assert f"share none of their {n_all} and {n_all + 1} patients, counted at the fit" in found
    assert f"and in the validation part of another: {n_all}." in found
    assert f"The {n_scored} patients scored here share none with the {n_all + 1} of" in found
    assert "sum over" not in found
    shared = join_data(data, [own, {**swapped, "scored": {*own["scored"], "another"}}])["apart"]
    counts = {"n_shared": 1, "n_seen": n_all + 1, "n_scored": n_scored + 1}
    assert shared == {"how": "fit", **counts}


def test_sum_of_patients_over_models_is_called_a_sum(two_models, fitted, valid, tmp_path):
    data, inputs = two_models
    joined = join_data(data)
    write_report(tmp_path, inputs._replace(data=joined))
    cells, found = parts_of_flow(tmp_path)
    n_training, n_validation = (
        2 * len(own) for own in (fitted.trained_patients_, fitted.validated_patients_)
    )
    of_sum = "(sum over 2 models)"
    n_scored = valid["patient"].nunique()
    assert cells == [f"{n_training} {of_sum}", f"{n_validation} {of_sum}", str(n_scored)]
    assert f"share none of their {n_training} {of_sum} and {n_validation} {of_sum}" in found
    assert f"The {2 * n_scored} patients scored here {of_sum} share none with the" in found
    assert "is not the number of different people" in found
    page = data_flow_page(joined, inputs.predictions, evaluate(inputs.predictions).studies, note="")
    texts = [text.get_text() for text in page["figure"].axes[0].texts]
    assert any(f"{n_training} patients\n(patients: sum over 2 models)" in text for text in texts)
    assert any(f" of {n_scored} patients\n" in text for text in texts)


def test_flow_names_every_reason_to_leave_something_out(fitted, valid, predictions):
    data = collect_data(fitted, valid)
    fit = {**data["fits"][0], "given": 30, "unreadable_studies": 1, "unreadable_views": 3}
    fit["read"] = {"studies": 40, "unlabelled": 4, "files_left_out": {"of modality CT": 7}}
    table = predictions.assign(label=predictions["label"].astype("Int8"))
    table.loc[:4, "label"] = pd.NA
    page = data_flow_page(
        {**data, "fits": [fit], "read": {}},
        table,
        evaluate(table).studies,
        note="phantoms: no clinical meaning",
    )
    texts = [text.get_text() for text in page["figure"].axes[0].texts if text.get_text()]
    assert texts == [
        "Files of the folder",
        "Files left out:\n7 of modality CT",
        "40 studies read",
        "Left out:\n4 unlabelled\n6 of other splits or types,\nor not chosen",
        "30 studies given to the fit",
        "Left out: 1 without\na readable view\n(3 unreadable views)",
        *[text for text in texts if text.startswith("Training part:\n")],
        "60 studies predicted",
        "5 unlabelled",
        *[text for text in texts if text.startswith("Scored here:\n55 studies of")],
    ]
