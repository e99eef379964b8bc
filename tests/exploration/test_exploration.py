from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mura_skorch.exploration import (
    describe,
    explore_studies,
    format_table,
    read_image_files,
    summary_tables,
    write_exploration,
)
from mura_skorch.metrics import OVERALL
from mura_skorch.studies import read_studies


def save(folder, name, *, seed=0, size=(20, 30), mode="L", **settings):
    """Write a picture of noise and return its path."""
    grey = np.random.default_rng(seed).integers(0, 256, size[::-1], dtype=np.uint8)
    path = folder / name
    Image.fromarray(grey).convert(mode).save(path, **settings)
    return str(path)


@pytest.fixture
def table(tmp_path):
    """Five studies of three patients; p1 has two types."""
    views = [save(tmp_path, f"{i}.png", seed=i, size=(20 + i, 30)) for i in range(8)]
    return pd.DataFrame(
        {
            "study": ["a", "b", "c", "d", "e"],
            "split": ["train", "train", "train", "valid", "valid"],
            "study_type": ["XR_HAND", "XR_HAND", "XR_WRIST", "XR_HAND", "XR_HAND"],
            "patient": ["p1", "p2", "p1", "p3", "p3"],
            "views": [(views[0],), tuple(views[1:3]), (views[3],), (views[4],), tuple(views[5:])],
            "label": pd.array([0, 1, 1, 0, 1], dtype="Int8"),
        }
    )


def row(frame, **keys):
    for name, value in keys.items():
        frame = frame[frame[name] == value]
    (found,) = frame.to_dict("records")
    return found


def texts(found, kind=None):
    return [finding.text for finding in describe(found) if kind in (None, finding.kind)]


# ---- counts


def test_counts_match_the_table(table):
    counts = explore_studies(table, read_images=False).counts
    hands = row(counts, split="train", study_type="XR_HAND")
    assert {**hands, "split": 0, "study_type": 0} == {
        "split": 0,
        "study_type": 0,
        "patients": 2,
        "studies": 2,
        "normal": 1,
        "abnormal": 1,
        "unlabelled": 0,
        "abnormal_share": 0.5,
        "views": 3,
        "normal_views": 1,
        "abnormal_views": 2,
        "unlabelled_views": 0,
        "mean_views": 1.5,
        "max_views": 2,
    }
    assert row(counts, split="train", study_type=OVERALL)["patients"] == 2


def test_counts_of_types_sum_to_the_overall_row(studies):
    counts = explore_studies(studies, read_images=False).counts
    sums = ["studies", "normal", "abnormal", "unlabelled", "views", "normal_views"]
    for split, part in counts.groupby("split"):
        types, overall = part[part.study_type != OVERALL], part[part.study_type == OVERALL]
        assert types[sums].sum().tolist() == overall[sums].iloc[0].tolist(), split
    assert counts.loc[counts.study_type == OVERALL, "studies"].sum() == len(studies)
    assert counts.loc[counts.study_type == OVERALL, "views"].sum() == studies.views.map(len).sum()


def test_row_order_does_not_matter(studies):
    one = explore_studies(studies, read_images=False)
    two = explore_studies(studies.sample(frac=1, random_state=0), read_images=False)
    for name, frame in one._asdict().items():
        if isinstance(frame, pd.DataFrame):
            pd.testing.assert_frame_equal(frame, getattr(two, name), obj=name)


def test_splits_are_in_order_and_overall_comes_last(studies):
    counts = explore_studies(studies, read_images=False).counts
    assert list(dict.fromkeys(counts["split"])) == ["train", "valid", "test"]
    assert counts["study_type"].tolist() == ["XR_HAND", "XR_WRIST", OVERALL] * 3


def test_input_table_is_not_changed(table):
    before = table.copy(deep=True)
    explore_studies(table)
    pd.testing.assert_frame_equal(table, before)


def test_views_per_study_and_their_labels(table):
    views = explore_studies(table, read_images=False).views_per_study
    found = row(views, split="train", n_views=1)
    assert (found["studies"], found["normal"], found["abnormal_share"]) == (2, 1, 0.5)
    assert found["abnormal_share_low"] < 0.5 < found["abnormal_share_high"]


def test_patients_by_number_of_studies(table):
    patients = explore_studies(table, read_images=False).studies_per_patient
    assert row(patients, split="train", study_type="XR_HAND")["n_studies"] == 1
    assert row(patients, split="train", study_type=OVERALL, n_studies=2)["patients"] == 1
    assert row(patients, split="valid", study_type="XR_HAND")["n_studies"] == 2


def test_patients_of_several_types_are_counted_by_split(table):
    spanning = explore_studies(table, read_images=False).spanning
    train = row(spanning, split="train")
    assert (train["patients"], train["spanning"], train["spanning_share"]) == (2, 1, 0.5)
    assert row(spanning, split="valid")["spanning"] == 0


def test_patient_in_two_splits_is_a_bad_finding(table):
    table.loc[4, "patient"] = "p1"
    found = explore_studies(table, read_images=False)
    assert found.shared_patients.to_dict("records") == [
        {"patient": "p1", "splits": "train, valid", "studies": 3}
    ]
    assert describe(found)[0].kind == "bad"
    assert "more than one split: 1 (p1)" in describe(found)[0].text


def test_separate_patients_are_a_good_finding(studies):
    assert "No patient is in more than one split." in texts(
        explore_studies(studies, read_images=False), "good"
    )


# ---- the number of views


def test_view_count_auroc_equals_scikit_learn(table):
    aurocs = explore_studies(table, read_images=False).view_count_auroc
    assert row(aurocs, split="valid", study_type="XR_HAND")["auroc"] == 1
    assert row(aurocs, split="train", study_type=OVERALL)["auroc"] == 0.75


def test_single_study_has_no_auroc(table):
    found = explore_studies(table, read_images=False)
    assert np.isnan(row(found.view_count_auroc, split="train", study_type="XR_WRIST")["auroc"])
    assert any("XR_WRIST has 1 study" in text for text in texts(found))


def test_constant_number_of_views_has_auroc_of_half(table):
    table["views"] = [view[:1] for view in table["views"]]
    aurocs = explore_studies(table, read_images=False).view_count_auroc["auroc"].dropna()
    assert (aurocs == 0.5).all()


# ---- image files


def test_sizes_and_modes_match_the_files(table, tmp_path):
    table.at[3, "views"] = (save(tmp_path, "colour.png", size=(9, 5), mode="RGB"),)
    found = explore_studies(table)
    sizes = row(found.sizes, split="valid", study_type="XR_HAND")
    assert (sizes["short_min"], sizes["long_max"], sizes["images"]) == (5, 30, 4)
    assert row(found.modes, split="valid", mode="RGB")["images"] == 1
    assert found.modes["images"].sum() == len(found.images) == 8


def test_truncated_file_is_listed_with_its_reason(table):
    path = table.loc[1, "views"][1]
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: len(data) // 2])
    found = explore_studies(table)
    (bad,) = found.unreadable.to_dict("records")
    assert (bad["study"], bad["view"], bad["path"]) == ("b", 2, path)
    assert "truncated" in bad["problem"]
    assert path not in bad["problem"]
    assert "1 of 8 image files cannot be read; see the list." in texts(found, "bad")


def test_missing_and_foreign_files_are_listed(table, tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("no image")
    table.at[0, "views"] = (str(tmp_path / "gone.png"),)
    table.at[2, "views"] = (str(text),)
    problems = explore_studies(table).unreadable["problem"]
    assert "no such file" in problems[0]
    assert "no image Pillow knows" in problems[1]


@pytest.mark.slow
def test_unreadable_files_give_all_tables(table, tmp_path):
    table["views"] = [(str(tmp_path / f"gone{i}.png"),) for i in range(5)]
    found = explore_studies(table)
    assert len(found.unreadable) == 5
    assert found.sizes.empty
    write_exploration(found, tmp_path / "out")


def test_duplicate_across_splits_with_another_label_is_bad(table, tmp_path):
    # Compressed anew and in colour: other bytes, the same grey values.
    copy = save(tmp_path, "copy.png", seed=0, size=(20, 30), mode="RGB", compress_level=1)
    table.at[4, "views"] = (copy,)
    found = explore_studies(table)
    assert found.duplicates["study"].tolist() == ["a", "e"]
    assert set(found.duplicates["found"]) == {"across splits"}
    assert found.duplicates["labels_differ"].all()
    assert sum("copies" in text for text in texts(found, "bad")) == 2


def test_duplicates_are_classified_by_split_and_study(table, tmp_path):
    table.at[1, "views"] = (save(tmp_path, "x.png", seed=8), save(tmp_path, "y.png", seed=8))
    table.at[2, "views"] = (save(tmp_path, "z.png", seed=0, size=(20, 30)),)
    duplicates = explore_studies(table).duplicates
    places = duplicates.groupby("group")["found"].first().tolist()
    assert sorted(places) == ["in several studies", "within a study"]
    within = duplicates[duplicates["found"] == "within a study"]
    assert within["view"].tolist() == [1, 2]
    assert not within["labels_differ"].any()


def test_same_values_in_another_shape_are_not_duplicates(table, tmp_path):
    flat = [np.zeros(shape, dtype=np.uint8) for shape in ((4, 6), (6, 4))]
    for i, pixels in enumerate(flat):
        Image.fromarray(pixels).save(tmp_path / f"flat{i}.png")
        table.at[i, "views"] = (str(tmp_path / f"flat{i}.png"),)
    assert explore_studies(table).duplicates.empty


def test_number_of_threads_does_not_matter(studies):
    one, two = (read_image_files(studies, n_jobs=n) for n in (1, 2))
    pd.testing.assert_frame_equal(one, two)


def test_image_table_has_view_numbers_and_studies(studies):
    images = read_image_files(studies)
    assert images["path"].tolist() == studies["views"].explode().tolist()
    assert images.groupby("study")["view"].max().to_dict() == (
        studies.set_index("study")["views"].map(len).to_dict()
    )


def test_phantoms_are_readable_and_distinct(studies):
    found = explore_studies(studies)
    assert found.unreadable.empty
    assert found.duplicates.empty
    assert found.note == "phantoms: no clinical meaning"


def test_files_are_not_opened_without_read_images(table):
    table["views"] = [("no/such.png",)] * 5
    found = explore_studies(table, read_images=False)
    assert found.images is None
    assert found.sizes is None
    assert "The image files were not read." in texts(found)


# ---- tables of other shapes


@pytest.mark.parametrize("column", ["study", "split", "patient", "label"])
def test_tables_without_a_column_are_explored(table, column, tmp_path):
    found = explore_studies(table.drop(columns=column))
    assert found.counts["studies"].max() >= 3
    write_exploration(found, tmp_path / "out")
    assert all(format_table(part) for part in summary_tables(found).values())


def test_table_without_split_is_one_split(table):
    counts = explore_studies(table.drop(columns="split"), read_images=False).counts
    assert set(counts["split"]) == {"all"}


def test_table_without_labels_has_no_auroc(table):
    found = explore_studies(table.drop(columns="label"), read_images=False)
    assert found.view_count_auroc["auroc"].isna().all()
    assert found.counts["abnormal_share"].isna().all()
    assert "3 studies of the split train have no label." in texts(found)


def test_table_without_patients_has_no_patient_tables(table):
    found = explore_studies(table.drop(columns="patient"), read_images=False)
    assert found.spanning is None
    assert found.shared_patients is None
    assert "patients" not in summary_tables(found)["Studies"]


def test_unlabelled_studies_are_counted(studies):
    found = explore_studies(studies, read_images=False)
    test = row(found.counts, split="test", study_type=OVERALL)
    assert (test["unlabelled"], test["normal"], test["abnormal"]) == (4, 0, 0)
    assert np.isnan(test["abnormal_share"])
    aurocs = summary_tables(found)["AUROC of the number of views alone"]
    assert list(aurocs) == ["study type", "train", "valid"]


def test_study_type_overall_is_refused(table):
    with pytest.raises(ValueError, match="study types other than 'overall'"):
        explore_studies(table.assign(study_type=OVERALL))


def test_invalid_table_is_refused(table):
    with pytest.raises(ValueError, match="Missing: views"):
        explore_studies(table.drop(columns="views"))


def test_repeated_index_is_accepted(table):
    whole = explore_studies(table)
    found = explore_studies(table.set_index(pd.Index([0] * 5)))
    pd.testing.assert_frame_equal(found.images, whole.images)


# ---- what is read


def test_summary_tables_hold_only_str(studies):
    for name, part in summary_tables(explore_studies(studies)).items():
        assert part.map(lambda cell: isinstance(cell, str)).all(axis=None), name
        assert part.columns.is_unique, name


def test_tables_fit_a_terminal(table, tmp_path):
    long = "X" * 60
    table["study_type"] = long
    table["study"] = [long + name for name in table["study"]]
    table.at[0, "views"] = (str(tmp_path / "gone.png"),)
    for part in summary_tables(explore_studies(table)).values():
        assert max(map(len, format_table(part).splitlines())) <= 100


def test_bad_findings_come_first(table):
    table.loc[4, "patient"] = "p1"
    kinds = [finding.kind for finding in describe(explore_studies(table))]
    assert kinds == sorted(kinds, key=("bad", "plain", "good").index)
    assert set(kinds) == {"bad", "plain", "good"}


def test_page_and_files_match_the_tables_and_have_the_note(studies, tmp_path):
    found = explore_studies(studies)
    page = write_exploration(found, tmp_path / "out").read_text(encoding="utf-8")
    page = page.replace("<wbr>", "")  # where keys may wrap
    assert "phantoms: no clinical meaning" in page
    for part in summary_tables(found).values():
        assert all(f">{cell}<" in page for cell in part.to_numpy().ravel())
    counts = pd.read_csv(tmp_path / "out" / "counts.csv")
    assert counts["studies"].tolist() == found.counts["studies"].tolist()
    assert set(counts["note"]) == {"phantoms: no clinical meaning"}
    assert (tmp_path / "out" / "dataset.png").stat().st_size > 10_000


def test_file_names_are_escaped_on_the_page(table, tmp_path):
    table["study_type"] = "<img src=x>"
    table["study"] = [f"</table>{name}" for name in table["study"]]
    table.at[0, "views"] = ("<b>.png",)
    page = write_exploration(explore_studies(table), tmp_path / "out").read_text(encoding="utf-8")
    assert "<img src=x>" not in page
    assert "</table>a" not in page


def test_real_radiographs_are_explored(real_root):
    found = explore_studies(read_studies(real_root))
    assert found.counts.loc[found.counts.study_type == OVERALL, "views"].tolist() == [95, 64]
    assert found.unreadable.empty
    assert found.shared_patients.empty


@pytest.mark.slow
def test_written_paths_are_relative(studies, phantom_root, table, tmp_path):
    broken = studies.copy()
    broken.at[0, "views"] = (str(phantom_root / broken.loc[0, "study"] / "gone.png"),)
    write_exploration(explore_studies(broken), tmp_path / "out")
    write_exploration(explore_studies(table), tmp_path / "other")
    images = pd.read_csv(tmp_path / "out" / "images.csv")
    assert (phantom_root / images["path"].iloc[-1]).is_file()
    unreadable = pd.read_csv(tmp_path / "out" / "unreadable.csv")
    assert unreadable["path"].tolist() == [f"{broken.loc[0, 'study']}/gone.png"]
    for file in tmp_path.glob("o*/*.csv"):
        text = file.read_text()
        assert str(phantom_root) not in text, file
        assert str(tmp_path) not in text, file
