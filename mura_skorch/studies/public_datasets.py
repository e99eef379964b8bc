"""Read public datasets of limbs in their published layouts as study tables."""

import io
import os
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from mura_skorch.studies.mura_folder import IMAGE_SUFFIXES
from mura_skorch.studies.read_counts import with_read_counts
from mura_skorch.utils.csv_files import delimiter_of, read_text
from mura_skorch.utils.paths import paths_outside
from mura_skorch.utils.text import printable, some_names

__all__ = ["LAYOUTS", "find_layout", "read_fracatlas", "read_grazpedwri", "read_lera"]

OnMissing = Literal["raise", "skip"]
SPLIT = "test"  # of all rows: the datasets have no split by patient
# A file of GRAZPEDWRI-DX: patient, time, study number, WRI-, side and projection, sex and age.
GRAZ_NAME = re.compile(
    r"(?P<patient>\d+)_(?P<time>\d+)_(?P<number>\d+)_WRI-(?P<side>[LR])(?P<projection>\d)"
    r"_(?P<sex>[A-Z])(?P<age>\d{3})"
)
FRACATLAS_TYPES = ("hand", "leg", "hip", "shoulder")
FRACATLAS_FOLDERS = {"Fractured": 1, "Non_fractured": 0}
NO_PATIENTS = "FracAtlas: patients are not published, each image counts as one"


def read_grazpedwri(
    folder: str | os.PathLike[str], *, on_missing: OnMissing = "raise"
) -> pd.DataFrame:
    """Read the folder of GRAZPEDWRI-DX as a study table: wrists of children after an injury.

    Parameters
    ----------
    folder : path
        Holds ``dataset.csv`` and, at any depth, the images.
    on_missing : {"raise", "skip"}, default="raise"
        How to handle rows without an image, and images without a row. "skip" leaves out the
        complete study, with a warning.

    Returns
    -------
    DataFrame of n_studies rows
        As of `mura_skorch.read_studies`, all of split ``test`` and type ``XR_WRIST``; then ``sex``
        (str), ``age`` (int64, years) and ``side`` (L or R). A study is abnormal if a fracture is
        visible in any of its views.

    Raises
    ------
    FileNotFoundError
        The folder or its ``dataset.csv`` does not exist.
    ValueError
        A name has another form, a column is missing, rows and images do not match, or a link leads
        out of the folder.

    Notes
    -----
    The dataset [1]_ names a file by patient, time, number of the study, side and projection, sex
    and age, such as ``0001_1297860395_01_WRI-L1_M014.png``. Its table ``dataset.csv`` has a row per
    file, with ``filestem`` and ``fracture_visible`` (1 or empty). Both wrists of one study become
    two rows, since a study of MURA shows one limb. Casts and metal do not make a study abnormal.

    References
    ----------
    .. [1] Nagy et al., "A pediatric wrist trauma X-ray dataset (GRAZPEDWRI-DX) for machine
       learning", Scientific Data 9, 222, 2022. doi:10.1038/s41597-022-01328-z
    """
    root = _check_folder(folder, "dataset.csv")
    table = _read_csv(root / "dataset.csv", ["filestem", "fracture_visible"])
    images = _images(root)
    parts = [GRAZ_NAME.fullmatch(stem) for stem in table["filestem"]]
    if bad := [stem for stem, part in zip(table["filestem"], parts, strict=True) if not part]:
        raise ValueError(
            f"{printable(root)}: expected names such as 0001_1297860395_01_WRI-L1_M014, got "
            f"{len(bad):,} others: {some_names(bad)}; correct dataset.csv"
        )
    views = pd.DataFrame([part.groupdict() for part in parts if part])
    views["stem"] = table["filestem"].to_numpy()
    views["label"] = _flags(root, table["fracture_visible"])
    views["path"] = views["stem"].map(images)
    known = set(views["stem"])
    strange = [stem for stem in images if stem not in known and GRAZ_NAME.fullmatch(stem)]
    visit = views["patient"] + "/" + views["number"]
    without = set(visit[views["path"].isna()])
    for part in map(GRAZ_NAME.fullmatch, strange):
        without.add(f"{part['patient']}/{part['number']}")  # type: ignore[index]
    n_missing = int(views["path"].isna().sum())
    _refuse(root, {"rows without an image": n_missing, "images without a row": len(strange)},
            on_missing, len(without))  # fmt: skip
    views = views[~visit.isin(without)].sort_values("stem")
    n_sides = views.groupby(["patient", "number"])["side"].transform("nunique")
    views["end"] = ("_" + views["side"]).where(n_sides > 1, "")
    rows = []
    for key, own in views.groupby(["patient", "number", "end"]):
        patient, number, end = map(str, key)
        name = f"patient{int(patient):05d}"
        rows.append(
            {
                "study": f"{SPLIT}/XR_WRIST/{name}/study{int(number)}{end}",
                "study_type": "XR_WRIST",
                "patient": name,
                "views": tuple(own["path"]),
                "label": int(own["label"].max()),
                "sex": own["sex"].iloc[0],
                "age": int(own["age"].iloc[0]),
                "side": own["side"].iloc[0],
            }
        )
    return _as_studies(root, rows)


def read_fracatlas(
    folder: str | os.PathLike[str], *, on_missing: OnMissing = "raise"
) -> pd.DataFrame:
    """Read the folder of FracAtlas as a study table: limbs of adults, one image a study.

    Parameters
    ----------
    folder : path
        Holds ``dataset.csv``, ``images/Fractured`` and ``images/Non_fractured``.
    on_missing : {"raise", "skip"}, default="raise"
        How to handle rows without an image, and images without a row. "skip" leaves them out, with
        a warning.

    Returns
    -------
    DataFrame of n_images rows
        As of `mura_skorch.read_studies`, all of split ``test``; then ``hardware`` and ``multiscan``
        (0 or 1), and ``note``, since the patients are not known. Types are ``XR_HAND``,
        ``XR_LEG``, ``XR_HIP`` and ``XR_SHOULDER``, and ``XR_MIXED`` for images that show several
        parts or none of these. An image is abnormal if it shows a fracture.

    Raises
    ------
    FileNotFoundError
        The folder or its ``dataset.csv`` does not exist.
    ValueError
        A column is missing, rows and images do not match, an image lies in the folder of the other
        class, or a link leads out of the folder.

    Notes
    -----
    The table ``dataset.csv`` of the dataset [1]_ has a row per image, with ``image_id`` and flags
    such as ``hand``, ``leg``, ``hip``, ``shoulder``, ``mixed``, ``hardware``, ``multiscan`` and
    ``fractured``. The dataset names no patient: intervals treat each image as a patient and are
    therefore too narrow if patients have several.

    References
    ----------
    .. [1] Abedeen et al., "FracAtlas: A dataset for fracture classification, localization and
       segmentation of musculoskeletal radiographs", Scientific Data 10, 521, 2023.
       doi:10.1038/s41597-023-02432-4
    """
    root = _check_folder(folder, "dataset.csv")
    flags = (*FRACATLAS_TYPES, "hardware", "multiscan", "fractured")
    table = _read_csv(root / "dataset.csv", ["image_id", *flags])
    for name in flags:
        table[name] = _flags(root, table[name])
    images: dict[str, str] = {}
    labels: dict[str, int] = {}
    for name, label in FRACATLAS_FOLDERS.items():
        found = _images(root / "images" / name, root=root)
        images |= found
        labels |= dict.fromkeys(found, label)
    stems = table["image_id"].map(lambda name: Path(str(name)).stem)
    wrong = [stem for stem, flag in zip(stems, table["fractured"], strict=True)
             if labels.get(stem, flag) != flag]  # fmt: skip
    if wrong:
        raise ValueError(
            f"{printable(root)}: expected images in the folder of their class, got "
            f"{len(wrong):,} in the other: {some_names(wrong)}; copy the dataset again"
        )
    n_missing, n_strange = int((~stems.isin(images)).sum()), len(set(images) - set(stems))
    _refuse(root, {"rows without an image": n_missing, "images without a row": n_strange},
            on_missing, n_missing + n_strange)  # fmt: skip
    rows = []
    for stem, row in zip(stems, table.to_dict("records"), strict=True):
        if stem not in images:
            continue
        parts = [name for name in FRACATLAS_TYPES if row[name]]
        kind = f"XR_{parts[0].upper()}" if len(parts) == 1 else "XR_MIXED"
        rows.append(
            {
                "study": f"{SPLIT}/{kind}/{stem}/study1",
                "study_type": kind,
                "patient": stem,
                "views": (images[stem],),
                "label": int(row["fractured"]),
                "hardware": int(row["hardware"]),
                "multiscan": int(row["multiscan"]),
            }
        )
    return _as_studies(root, rows).assign(note=NO_PATIENTS)


def read_lera(folder: str | os.PathLike[str], *, on_missing: OnMissing = "raise") -> pd.DataFrame:
    """Read the folder of LERA as a study table: feet, ankles, knees and hips.

    Parameters
    ----------
    folder : path
        Holds ``labels.csv`` and a folder per patient, with the images of the study in ``ST-1``.
    on_missing : {"raise", "skip"}, default="raise"
        How to handle rows without a folder, and folders without a row. "skip" leaves them out, with
        a warning.

    Returns
    -------
    DataFrame of n_studies rows
        As of `mura_skorch.read_studies`, all of split ``test``. Types are ``XR_FOOT``,
        ``XR_ANKLE``, ``XR_KNEE`` and ``XR_HIP``.

    Raises
    ------
    FileNotFoundError
        The folder or its ``labels.csv`` does not exist.
    ValueError
        A row has another form, a patient has several rows, rows and folders do not match, or a link
        leads out of the folder.

    Notes
    -----
    ``labels.csv`` has no header. A row holds a patient, a type such as ``XR ANKLE``, and 1 for
    abnormal or 0 for normal [1]_.

    References
    ----------
    .. [1] Varma et al., "Automated abnormality detection in lower extremity radiographs using deep
       learning", Nature Machine Intelligence 1, 578-583, 2019. doi:10.1038/s42256-019-0126-0
    """
    root = _check_folder(folder, "labels.csv")
    table = _read_csv(root / "labels.csv", ["patient", "type", "label"], has_header=False)
    table["label"] = _flags(root, table["label"])
    if several := sorted(set(table["patient"][table["patient"].duplicated()])):
        raise ValueError(
            f"{printable(root)}: expected one row per patient in labels.csv, got several for "
            f"{len(several):,}: {some_names(several)}; a row does not name its study, so leave "
            "these patients out"
        )
    images: dict[str, list[str]] = {}
    visits: dict[str, set[str]] = {}
    for path in _paths(root, root=root):
        patient, *parts = Path(path).relative_to(root).parts
        images.setdefault(patient, []).append(path)
        visits.setdefault(patient, set()).add(parts[0] if len(parts) > 1 else "")
    if several := sorted(patient for patient, found in visits.items() if len(found) > 1):
        raise ValueError(
            f"{printable(root)}: expected one study folder per patient, got several for "
            f"{len(several):,}: {some_names(several)}; a row of labels.csv does not name its "
            "study, so leave these patients out"
        )
    n_missing = int((~table["patient"].isin(images)).sum())
    n_strange = len(set(images) - set(table["patient"]))
    _refuse(root, {"rows without images": n_missing, "patients without a row": n_strange},
            on_missing, n_missing + n_strange)  # fmt: skip
    rows = []
    for row in table[table["patient"].isin(images)].to_dict("records"):
        kind = re.sub(r"\W+", "_", row["type"].strip()).upper()
        rows.append(
            {
                "study": f"{SPLIT}/{kind}/{row['patient']}/ST-1",
                "study_type": kind,
                "patient": row["patient"],
                "views": tuple(images[row["patient"]]),
                "label": int(row["label"]),
            }
        )
    return _as_studies(root, rows)


# What reads each layout, by the name that scripts take.
LAYOUTS: dict[str, Callable[..., pd.DataFrame]] = {
    "grazpedwri": read_grazpedwri,
    "fracatlas": read_fracatlas,
    "lera": read_lera,
}


def find_layout(folder: str | os.PathLike[str]) -> str | None:
    """Return the name of the public layout that a folder has, or None.

    Parameters
    ----------
    folder : path

    Returns
    -------
    {"grazpedwri", "fracatlas", "lera"} or None
        A key of `LAYOUTS`. Only names of files and the header of ``dataset.csv`` are read.

    Examples
    --------
    >>> find_layout("no/such/folder") is None
    True
    """
    root = Path(folder)
    if (root / "dataset.csv").is_file():
        header = read_text(root / "dataset.csv").partition("\n")[0]
        if "filestem" in header:
            return "grazpedwri"
        return "fracatlas" if "image_id" in header else None
    is_lera = (root / "labels.csv").is_file() and any(root.glob("*/ST-1"))
    return "lera" if is_lera else None


def _check_folder(folder: str | os.PathLike[str], file: str) -> Path:
    """Return the folder; raise if it or its table does not exist."""
    root = Path(folder).expanduser().resolve()
    if not (root / file).is_file():
        raise FileNotFoundError(
            f"{printable(root)}: expected a folder with {file}, got none; pass the folder that was "
            "unpacked"
        )
    return root


def _read_csv(file, columns, *, has_header=True):
    """Return the columns of a CSV file as texts; empty cells are empty texts."""
    try:
        text = read_text(file)
        delimiter = delimiter_of(text, lambda fields: has_header and columns[0] in fields)
        form: dict[str, Any] = {"sep": delimiter, "dtype": str, "keep_default_na": False}
        if not has_header:
            form |= {"header": None, "names": columns}
        table = pd.read_csv(io.StringIO(text), skipinitialspace=True, **form)
    except ValueError as error:  # a parser error of pandas is one
        raise ValueError(
            f"{printable(file)}: expected a CSV file in UTF-8, got "
            f"{printable(str(error).strip())}; copy the dataset again"
        ) from error
    table = table.rename(columns=str.strip)
    if missing := [name for name in columns if name not in table]:
        raise ValueError(
            f"{printable(file)}: expected the columns {', '.join(missing)}, got "
            f"{some_names(table)}; pass the table of the dataset"
        )
    table[columns[0]] = table[columns[0]].str.strip()
    if (
        repeated := list(table.loc[table[columns[0]].duplicated(), columns[0]])
        if has_header
        else []
    ):
        raise ValueError(
            f"{printable(file)}: expected each {columns[0]} once, got {len(repeated):,} repeated: "
            f"{some_names(repeated)}; correct the table"
        )
    return table


def _flags(folder, texts):
    """Return cells of 1, 1.0, 0 or nothing as integers."""
    numbers = pd.to_numeric(texts.replace("", "0"), errors="coerce")
    if (wrong := ~numbers.isin([0, 1])).any():
        raise ValueError(
            f"{printable(folder)}: expected 0, 1 or nothing in the column {texts.name}, got "
            f"{some_names(texts[wrong].unique())}; correct the table"
        )
    return numbers.astype(int)


def _paths(folder: Path, *, root: Path) -> list[str]:
    """Return the images below a folder, sorted; raise if a link leads out of the root."""
    found = sorted(
        str(path)
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if outside := paths_outside(root, found):
        raise ValueError(
            f"{printable(root)}: expected images below this folder, got {len(outside):,} links "
            f"that lead out of it: {some_names(outside)}; copy the files there"
        )
    return found


def _images(folder: Path, *, root: Path | None = None) -> dict[str, str]:
    """Return the images below a folder by name without ending; raise if a name occurs twice."""
    paths = _paths(folder, root=root or folder)
    images = {Path(path).stem: path for path in paths}
    if len(images) < len(paths):
        raise ValueError(
            f"{printable(folder)}: expected images of different names, got "
            f"{len(paths) - len(images):,} repeated; remove the copies"
        )
    return images


def _refuse(folder: Path, problems: dict[str, int], on_missing: str, n_left_out: int) -> None:
    """Raise or warn if rows and images do not match."""
    if on_missing not in ("raise", "skip"):
        raise ValueError(f"expected on_missing as raise or skip, got {on_missing!r}")
    named = ", ".join(f"{n:,} {what}" for what, n in problems.items() if n)
    if named and on_missing == "raise":
        raise ValueError(
            f"{printable(folder)}: expected an image for each row of the table, got {named}; "
            "complete the copy, or leave these studies out with on_missing='skip'"
        )
    if named:
        warnings.warn(
            f"{printable(folder)}: {named}: {n_left_out:,} studies are left out", stacklevel=3
        )


def _as_studies(folder: Path, rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a study table."""
    studies = pd.DataFrame(rows)
    if studies.empty:
        raise ValueError(f"{printable(folder)}: expected studies, got none; check the path")
    studies["label"] = studies["label"].astype("Int8")
    studies.insert(1, "split", SPLIT)
    return with_read_counts(
        studies.sort_values(["study_type", "patient", "study"], ignore_index=True)
    )
