"""Render an exploration as readable tables, CSV files and an HTML page."""

import os
from pathlib import Path

import pandas as pd

from mura_skorch.evaluation.published import resembles_mura
from mura_skorch.exploration.findings import describe
from mura_skorch.exploration.tables import Exploration
from mura_skorch.metrics import OVERALL
from mura_skorch.plots import DatasetDisplay
from mura_skorch.report.html import render_page
from mura_skorch.utils.text import LINE_WIDTH, printable, shorten

__all__ = ["format_table", "summary_tables", "write_exploration"]

N_LISTED = 20  # rows shown of a list; the CSV files have all
N_STUDIES = 4  # most studies of a patient with their own column
NAME_WIDTH = 24  # characters of a cell on the screen
STUDY_WIDTH = 48  # characters of a study key, which is useful only if complete
# Explanations of tables.
REMARKS = {
    "Studies": "Each row counts a patient once. A patient with two study types is counted in both "
    "rows, but only once in the row overall.",
    "Views per study": "Number of studies by number of views, and the share of abnormal ones among "
    "those with a label. If this share varies, a model can use the number of views.",
    "AUROC of the number of views alone": "Studies are ranked by their number of views, without "
    "looking at any pixel. 0.5 is chance. Below 0.5, normal studies have more views. n/a: one "
    "class is missing. A report shows another figure, from a cross-validated regression.",
    "Patients by number of studies": "Rows of study types count the studies of that type, the row "
    "overall counts all studies.",
    "Patients in several splits": "There should be none.",
    "Image sizes": "Minimum / median / maximum, in pixels, of the shorter and the longer side.",
    "Formats and modes": "Images by file format and Pillow's colour mode: L is grey, RGB colour.",
    "Images with the same pixels": "Compared after decoding to grey, so that copies in another "
    "format or colour mode are found.",
}


def summary_tables(exploration: Exploration) -> dict[str, pd.DataFrame]:
    """Format an exploration as tables of text for terminal and page.

    Parameters
    ----------
    exploration : mura_skorch.exploration.Exploration

    Returns
    -------
    dict of str to DataFrame
        Heading to table; every cell is a str. Lists end after 20 rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.exploration import explore_studies
    >>> from mura_skorch.exploration import summary_tables
    >>> studies = pd.DataFrame({"study_type": ["XR_HAND"], "views": [("a.png",)]})
    >>> list(summary_tables(explore_studies(studies, read_images=False)))
    ['Studies', 'Images', 'Views per study', 'AUROC of the number of views alone']
    """
    found = exploration
    tables = {
        "Studies": _studies(found),
        "Images": _images(found.counts),
        "Views per study": _side_by_side(
            found.views_per_study, ["n_views"], {"studies": "studies", "abnormal_share": "abnormal"}
        ),
        "AUROC of the number of views alone": _side_by_side(
            found.view_count_auroc, ["study_type"], {"auroc": ""}
        ),
    }
    if found.spanning is not None and found.shared_patients is not None:
        tables["Patients by number of studies"] = _patients(found.studies_per_patient)
        tables["Patients of several study types"] = _spanning(found.spanning)
        tables["Patients in several splits"] = _texts(found.shared_patients.head(N_LISTED))
    if found.images is not None:
        tables["Image sizes"] = _sizes(found.sizes)
        tables["Formats and modes"] = _side_by_side(found.modes, ["format", "mode"], {"images": ""})
        tables["Images with the same pixels"] = _duplicates(found.duplicates)
        tables["Files that cannot be read"] = _unreadable(found.unreadable)
    if resembles_mura(found.published):
        differing = found.published[~found.published["agrees"]].drop(columns="agrees")
        tables["Counts that differ from MURA v1.1"] = _texts(differing.head(N_LISTED))
    return {name: table for name, table in tables.items() if len(table)}


def write_exploration(
    exploration: Exploration,
    folder: str | os.PathLike[str],
    *,
    title: str = "Dataset exploration",
) -> Path:
    """Write each table as a CSV file, the figure as dataset.png and everything as dataset.html.

    Paths start below the folder of the dataset, or have no folder if the keys of the studies do not
    match the paths.

    Parameters
    ----------
    exploration : mura_skorch.exploration.Exploration
    folder : path
        Created if missing.
    title : str
        Heading of the page.

    Returns
    -------
    Path
        Path of the page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    note = exploration.note
    for name, table in exploration._asdict().items():
        if isinstance(table, pd.DataFrame):
            if "path" in table:
                table = table.assign(path=_relative_paths(table))
            if note:
                table = table.assign(note=note)
            table.to_csv(folder / f"{name}.csv", index=False)
    display = DatasetDisplay(
        exploration.counts, exploration.views_per_study, exploration.images, note=note
    )
    overview = display.plot().figure_
    overview.savefig(folder / "dataset.png", dpi=150)
    page = render_page(
        "exploration.html.jinja",
        title=title,
        note=note,
        overview=overview,
        remarks=REMARKS,
        findings=describe(exploration),
        tables=summary_tables(exploration),
    )
    path = folder / "dataset.html"
    path.write_text(page, encoding="utf-8")
    return path


def format_table(table: pd.DataFrame) -> str:
    """Format a table of text for a terminal of 100 columns.

    Parameters
    ----------
    table : DataFrame
        Every cell is a str.

    Returns
    -------
    str
        Lines without a final line break. Columns of numbers are right-aligned, others left-aligned,
        and long cells are cut.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.exploration import format_table
    >>> print(format_table(pd.DataFrame({"split": ["train", "valid"], "studies": ["12", "3"]})))
    split  studies
    --------------
    train       12
    valid        3
    """
    columns = []
    for position, (name, column) in enumerate(table.items()):
        most = STUDY_WIDTH if name == "study" else NAME_WIDTH
        if position == table.shape[1] - 1:
            most = LINE_WIDTH
        cells = [str(name), *(shorten(printable(cell), most) for cell in column)]
        width = max(map(len, cells))
        right = all(cell[:1] in set("0123456789.-") or cell in ("", "n/a") for cell in cells[1:])
        columns.append([cell.rjust(width) if right else cell.ljust(width) for cell in cells])
    lines = [shorten("  ".join(line).rstrip(), LINE_WIDTH) for line in zip(*columns, strict=True)]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _relative_paths(table):
    """Return the paths of views without folders that are specific to this machine."""
    pairs = zip(map(Path, table["path"]), table["study"], strict=True)
    return [
        printable(
            f"{study}/{path.name}" if path.parent.as_posix().endswith(f"/{study}") else path.name
        )
        for path, study in pairs
    ]


def _studies(found):
    """Format studies and labels by split and study type."""
    columns = ["patients", "studies", "normal", "abnormal", "abnormal_share", "unlabelled"]
    if not found.counts["unlabelled"].any():
        columns.remove("unlabelled")
    if found.spanning is None:
        columns.remove("patients")
    return _texts(found.counts[["split", "study_type", *columns]])


def _images(counts):
    """Format the number of images by split and study type."""
    columns = {"views": "images", "normal_views": "normal", "abnormal_views": "abnormal"}
    if counts["unlabelled"].any():
        columns["unlabelled_views"] = "unlabelled"
    columns |= {"mean_views": "mean per study", "max_views": "max per study"}
    return _texts(counts[["split", "study_type", *columns]].rename(columns=columns))


def _patients(patients):
    """Count patients by study type and number of studies."""
    names = {n: f"{n} studies" for n in range(2, N_STUDIES + 1)} | {1: "1 study"}
    n = patients["n_studies"].where(patients["n_studies"] <= N_STUDIES, N_STUDIES + 1)
    columns = sorted(set(n))
    names[N_STUDIES + 1] = f"{N_STUDIES + 1} or more"
    wide = patients.assign(n_studies=n).pivot_table(
        "patients", ["split", "study_type"], "n_studies", "sum", fill_value=0, sort=False
    )
    return _texts(wide[columns].rename(columns=names).reset_index())


def _spanning(spanning):
    """Format the number of patients with several study types."""
    columns = {"spanning": "with several types", "spanning_share": "share"}
    return _texts(spanning.rename(columns=columns))


def _sizes(sizes):
    """Format minimum, median and maximum of both sides."""
    table = sizes[["split", "study_type", "images"]].copy()
    for side in ("short", "long"):
        parts = sizes[[f"{side}_{part}" for part in ("min", "median", "max")]].to_numpy()
        table[f"{side} side"] = [" / ".join(f"{part:.0f}" for part in row) for row in parts]
    return _texts(table)


def _duplicates(duplicates):
    """Format the first copies."""
    table = duplicates[["group", "found", "labels_differ", "view", "study"]].head(N_LISTED)
    return _texts(table.replace({"labels_differ": {True: "yes", False: "no"}}))


def _unreadable(unreadable):
    """Format the first unreadable files."""
    table = unreadable[["view", "study", "problem"]].head(N_LISTED)
    # The expected part is the same in every row and takes too much width.
    problem = table["problem"].str.replace(r"^expected .*?, got ", "", regex=True)
    return _texts(table.assign(problem=problem))


def _side_by_side(table, rows, values):
    """Arrange splits side by side, one column per split and value; drop empty columns."""
    parts = [pd.DataFrame(index=table.head(0).set_index(rows).index)]  # for a table without rows
    for split, part in table.groupby("split", sort=False):
        filled = part.set_index(rows)[list(values)].dropna(axis=1, how="all")
        titles = [values[name] for name in filled]
        headers = [f"{split}: {title}" if title else split for title in titles]
        parts.append(_texts(filled).set_axis(headers, axis=1))
    wide = pd.concat(parts, axis=1).fillna("")
    wide = wide.loc[sorted(wide.index, key=lambda key: (key == OVERALL, key))]
    return _texts(wide.rename_axis(rows).reset_index().rename(columns={"n_views": "views"}))


def _texts(table):
    """Format every cell as text under readable headers; shares become per cent."""
    texts = {
        name: [_text(value, is_share=str(name).endswith("share")) for value in table[name]]
        for name in table
    }
    headers = {name: str(name).replace("_", " ") for name in table}
    return pd.DataFrame(texts, index=table.index, dtype=object).rename(columns=headers)


def _text(value, *, is_share=False):
    """Format one cell."""
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return "n/a"
    if is_share:
        return f"{100 * value:.1f} %"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"
