import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mura_skorch import read_studies
from mura_skorch.exploration import read_image_files
from mura_skorch.studies import check_studies, write_studies
from mura_skorch.studies.read_counts import read_counts

HEADER = "study,study_type,patient,label,views\n"
ROW = "s1,XR_HAND,0010,1,a.png;b.png\n"


@pytest.fixture(autouse=True)
def images():
    for name in ("a.png", "b.png", "c.png"):
        Path(name).touch()


def write(text, name="clinic.csv", **options):
    Path(name).write_text(text, **options)
    return name


def texts(*, leads_to_number=False):
    """Texts without blanks around them and without characters that end a line."""
    letters = st.characters(categories=["L", "N", "P", "S"])
    text = st.text(letters, min_size=1, max_size=8).map(str.strip).filter(bool)
    return text if leads_to_number else text.map("t{}".format)


PATHS = st.one_of(texts().map("/pictures/{}.png".format), texts().map("s3://bucket/{}.png".format))


@st.composite
def tables(draw):
    """Draw any valid study table, in the order of columns that a folder's table has."""
    n = draw(st.integers(1, 4))
    some = st.lists(texts(), min_size=n, max_size=n)
    table = {
        "study": draw(st.lists(texts(leads_to_number=True), min_size=n, max_size=n, unique=True))
    }
    if draw(st.booleans()):
        splits = st.sampled_from(["train", "valid", "test"])
        table["split"] = draw(st.lists(splits, min_size=n, max_size=n))
    table["study_type"] = draw(some)
    table["patient"] = draw(st.lists(texts(leads_to_number=True), min_size=n, max_size=n))
    views = st.lists(PATHS, min_size=1, max_size=3, unique=True).map(tuple)
    table["views"] = draw(st.lists(views, min_size=n, max_size=n))
    labels = st.sampled_from([0, 1, pd.NA])
    table["label"] = pd.array(draw(st.lists(labels, min_size=n, max_size=n)), dtype="Int8")
    for name, values in (
        ("site", texts() | st.none()),
        ("age", st.integers(-(10**9), 10**9)),
        ("score", st.floats(-1e9, 1e9)),
        ("is_new", st.booleans()),
        ("scanner", st.sampled_from(["001", "02"])),
    ):
        if draw(st.booleans()):
            table[name] = draw(st.lists(values, min_size=n, max_size=n))
    table = pd.DataFrame(table)
    return table.astype({"site": "str"}) if "site" in table else table


@pytest.fixture
def anywhere(monkeypatch):
    """Let paths of tables exist."""
    monkeypatch.setattr("mura_skorch.studies.study_table.os.path.exists", lambda path: True)


@pytest.mark.parametrize("name", ["studies.csv", "studies.parquet"])
@given(table=tables())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_study_table_survives_a_file(anywhere, name, table):
    write_studies(table, name)
    found = read_studies(name)
    if "site" in found:  # without a text, a CSV file does not say what the column holds
        found = found.astype({"site": "str"})
    pd.testing.assert_frame_equal(found, table)
    check_studies(found)


@given(table=tables())
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_pandas_writes_is_read_as_it_is(anywhere, table):
    table.to_csv("studies.csv")  # with its index, and views as Python's tuples
    pd.testing.assert_frame_equal(
        read_studies("studies.csv")[["study", "views"]], table[["study", "views"]]
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_folder_written_as_a_table_reads_back_equal(phantom_root, suffix):
    studies = read_studies(phantom_root)
    write_studies(studies, f"studies.{suffix}")
    found = read_studies(f"studies.{suffix}")
    pd.testing.assert_frame_equal(found, studies)
    assert read_counts(found) == read_counts(studies)


def test_table_of_images_by_the_exploration_reads_back_as_studies(phantom_root):
    studies = read_studies(phantom_root).drop(columns="note")
    read_image_files(studies).to_csv("images.csv", index=False)
    pd.testing.assert_frame_equal(read_studies("images.csv"), studies)


# --------------------------------------------------------------------- forms


@pytest.mark.parametrize(
    "cell",
    [
        "a.png;b.png",
        "a.png; b.png ;",
        '"[""a.png"", ""b.png""]"',
        "\"('a.png', 'b.png')\"",
        "\"['a.png', 'b.png']\"",
    ],
)
def test_each_form_of_views_gives_the_same_paths(cell):
    found = read_studies(write(HEADER + f"s1,XR_HAND,0010,1,{cell}\n"))
    assert found["views"][0] == (str(Path("a.png").resolve()), str(Path("b.png").resolve()))
    assert found["patient"].tolist() == ["0010"]


@pytest.mark.parametrize("column", ["path", "view"])
def test_rows_of_views_become_studies_in_their_order(column):
    rows = "s2,XR_HAND,p,abnormal,b.png\ns1,XR_HAND,q,,c.png\ns2,XR_HAND,p,1,a.png\n"
    found = read_studies(write(f"study,study_type,patient,label,{column}\n{rows}"))
    assert found["study"].tolist() == ["s2", "s1"]
    assert [[Path(p).name for p in views] for views in found["views"]] == [
        ["b.png", "a.png"],
        ["c.png"],
    ]
    assert found["label"].tolist() == [1, pd.NA]


def test_relative_paths_start_at_the_table_and_not_at_the_current_folder(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "z.png").touch()
    write(HEADER + "s1,XR_HAND,1,1,er\\z.png\n", tmp_path / "deep" / "t.csv")
    found = read_studies(tmp_path / "deep" / "t.csv")
    assert found["views"][0] == (str(tmp_path / "deep" / "er/z.png"),)


@pytest.mark.parametrize(
    ("encoding", "sign"), [("utf-8-sig", ";"), ("utf-16", "\t"), ("utf-8", ",")]
)
def test_a_spreadsheet_s_forms_give_the_same_table(encoding, sign):
    plain = read_studies(write(HEADER + ROW))
    text = f"Study, Study_Type ,patient,Label,views,\n\n{ROW.strip()},\n,,,,,\n\n"
    if sign == ";":
        text = text.replace("a.png;b.png", '"a.png;b.png"')
    text = text.replace(",", sign)
    pd.testing.assert_frame_equal(read_studies(write(text, encoding=encoding)), plain)


def test_words_are_labels_and_an_empty_cell_is_none():
    rows = [
        f"s{i},XR_HAND,p,{label},a.png\n"
        for i, label in enumerate(["normal", "ABNORMAL", "0", "1.0", ""])
    ]
    assert read_studies(write(HEADER + "".join(rows)))["label"].tolist() == [0, 1, 0, 1, pd.NA]
    assert (
        read_studies(write("study,study_type,patient,views\ns,t,p,a.png\n"))["label"].isna().all()
    )


def test_split_is_left_out_where_the_table_has_none():
    assert "split" not in read_studies(write(HEADER + ROW))
    with_split = HEADER.replace("label", "split") + ROW.replace(",1,", ",,")
    assert "split" not in read_studies(write(with_split))
    assert read_studies(write(with_split.replace(",,", ",Valid,")))["split"].tolist() == ["valid"]


# -------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns study, study_type, patient, views, got none"),
        ("study,label\ns,1\n", ".*got study, label: no study_type and no patient and no views;"),
        (HEADER, "expected at least one study, got none"),
        (
            HEADER + ROW + "s2,XR_HAND,1,yes,a.png\n",
            "line 3, column label: expected 0 or normal, .* got 'yes'",
        ),
        (
            HEADER + "\n\n" + ROW.replace("a.png;b.png", ""),
            r"line 4, column views: expected paths as a.png;b.png or \[.*got None",
        ),
        (
            HEADER + ROW.replace("a.png;b.png", '"[""a.png"", 3]"'),
            "line 2, column views: expected paths",
        ),
        (
            HEADER + ROW + ROW,
            "line 3, column study: expected each study once, got 's1' as in line 2",
        ),
        (HEADER + ROW.replace("0010", ""), "line 2, column patient: expected a value, got none"),
        (HEADER + '"s\n1",XR_HAND,1,1,a.png\n' + "s2,,1,1,a.png\n", "line 4, column study_type"),
        (
            HEADER + ROW.replace("1,a", "1,a,"),
            "line 2: expected 5 fields, as in the header, got 6; put quotes",
        ),
        (
            HEADER.replace("label", "split") + ROW,
            ".*column split: expected train, valid or test, got '1'",
        ),
        (
            HEADER.replace("label", "study") + ROW,
            "expected each column once, got several called study",
        ),
        (
            "study,study_type,patient,path\ns,t,p,a.png\ns,t,q,b.png\n",
            "line 3, column patient: expected 'p' as in line 2, .* of the same study, got 'q'",
        ),
        (
            "study,study_type,patient,path\ns,t,p,\n",
            "line 2, column path: expected the path of a view, got None",
        ),
        (HEADER + '"' + "x" * 200_000, "expected a CSV file in UTF-8, got field larger"),
    ],
)
def test_an_invalid_table_is_named_with_line_and_column(text, message):
    with pytest.raises(ValueError, match=f"/clinic.csv(, |: ){message}"):
        read_studies(write(text))


def test_a_parquet_file_is_named_with_its_row():
    table = pd.DataFrame(
        {
            "study": ["s1", "s2"],
            "study_type": "t",
            "patient": [1, 2],
            "label": [1, 7],
            "views": [["a.png"], ["b.png"]],
        }
    )
    table.to_parquet("clinic.parquet")
    with pytest.raises(
        ValueError, match="clinic.parquet, row 2, column label: expected 0 or normal"
    ):
        read_studies("clinic.parquet")
    Path("clinic.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="clinic.parquet: expected a parquet file, got"):
        read_studies("clinic.parquet")


def test_missing_files_are_counted_and_the_folder_named():
    text = (
        HEADER + ROW.replace("b.png", "z.png") + ROW.replace("s1", "s2").replace("a.png", "y.png")
    )
    with pytest.raises(
        FileNotFoundError,
        match=r"clinic.csv, line 2, column views: .* got 2 missing of 4, such as .*/z.png of the "
        r"study 's1'; .* start at /",
    ):
        read_studies(write(text))
    of_views = (
        "study,study_type,patient,path\np,XR_HAND,7,a.png\nq,XR_HAND,7,b.png\np,XR_HAND,7, z.png\n"
    )
    with pytest.raises(
        FileNotFoundError, match=r"line 4, column path: .* 1 missing of 3, .* study 'p'; "
    ):
        read_studies(write(of_views))
    with pytest.raises(
        FileNotFoundError, match=r"nowhere.csv: expected a table of studies, got no"
    ):
        read_studies("nowhere.csv")
    with pytest.raises(NotADirectoryError, match="a spreadsheet saved as CSV"):
        read_studies(write("", "clinic.xlsx"))


def test_only_tables_are_written_to_and_only_with_their_columns():
    with pytest.raises(ValueError, match=r"clinic.txt: expected a name that ends in .csv or"):
        write_studies(pd.DataFrame(), "clinic.txt")
    with pytest.raises(ValueError, match="got one without patient and views"):
        write_studies(pd.DataFrame({"study": [], "study_type": []}), "clinic.csv")


def test_a_table_at_an_address_names_no_file_of_this_machine(monkeypatch):
    text = HEADER + "s1,XR_HAND,1,1,a.png;s3://other/b.png\n"
    store = {
        "s3://bucket/data/clinic.csv": text,
        "s3://bucket/bad.csv": HEADER + ROW.replace("a.png", "/etc/passwd"),
    }
    monkeypatch.setattr("mura_skorch.studies.table_file.read_text", store.get)
    found = read_studies("s3://bucket/data/clinic.csv")
    assert found["views"][0] == ("s3://bucket/data/a.png", "s3://other/b.png")
    with pytest.raises(
        ValueError,
        match="line 2, column views: expected addresses, or paths below s3://bucket, got '/etc",
    ):
        read_studies("s3://bucket/bad.csv")


def test_the_page_of_tables_runs():
    page = (Path(__file__).parents[2] / "docs" / "how_to" / "studies_table.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(block, names)
