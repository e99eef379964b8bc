import numpy as np
import pytest
from matplotlib.figure import Figure

from mura_skorch.exploration import explore_studies
from mura_skorch.plots import DatasetDisplay


@pytest.fixture(scope="module")
def found(studies):
    return explore_studies(studies)


def titles(display):
    return [ax.get_title(loc="left") for ax in display.axes_]


def test_panels_depend_on_the_available_numbers(found):
    display = DatasetDisplay(found.counts, found.views_per_study, found.images).plot()
    assert isinstance(display.figure_, Figure)
    splits = [f"Studies: {split}" for split in ("train", "valid", "test")]
    below = ["Views per study", "Abnormal, by number of views"]
    assert titles(display) == [*splits, *below, "Image sizes"]
    assert titles(DatasetDisplay(found.counts, found.views_per_study).plot()) == [*splits, *below]


def test_bar_lengths_equal_the_counts(found):
    ax = DatasetDisplay(found.counts, found.views_per_study).plot().axes_[0]
    train = found.counts[(found.counts.split == "train") & (found.counts.study_type != "overall")]
    drawn = sum(bar.get_width() for bar in ax.patches)
    assert drawn == train["studies"].sum()


def test_shares_of_views_sum_to_100(found):
    display = DatasetDisplay(found.counts, found.views_per_study).plot()
    ax = display.axes_[titles(display).index("Views per study")]
    n_splits = found.counts["split"].nunique()
    assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(100 * n_splits)


def test_all_axes_are_labelled_with_units(found):
    for ax in DatasetDisplay(found.counts, found.views_per_study, found.images).plot().axes_:
        assert ax.get_xlabel()
        assert ax.get_ylabel() or ax.get_title(loc="left").startswith("Studies")


def test_note_is_drawn(found):
    display = DatasetDisplay(found.counts, found.views_per_study, note="phantoms").plot()
    assert display.figure_.get_suptitle() == "phantoms"


def test_unlabelled_and_unreadable_data_are_drawn(studies):
    found = explore_studies(studies.drop(columns="label"))
    images = found.images.assign(width=np.nan, height=np.nan)
    display = DatasetDisplay(found.counts, found.views_per_study, images).plot()
    display.figure_.draw_without_rendering()
    assert "no labels" in [text.get_text() for text in display.axes_[4].texts]
