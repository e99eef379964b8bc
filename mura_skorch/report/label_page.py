"""The page of a label review: suspect studies with pictures, and fields for a reader's verdicts."""

import base64
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mura_skorch.evaluation.label_review import VERDICTS
from mura_skorch.report.case_review import CaseView, map_text
from mura_skorch.report.html import render_page, template_text
from mura_skorch.utils.text import number_text

__all__ = ["Suspect", "write_label_page"]

REPORTED = ", with the labels of the reported split"  # what a title says


@dataclass(frozen=True)
class Suspect:
    """A study whose label is to be reviewed.

    Attributes
    ----------
    study, study_type : str
        Key and type of the study.
    split : str or None
        Its split, if known.
    label : int
        1 abnormal, 0 normal: what is to be reviewed.
    p_abnormal : float
        Out-of-fold probability of abnormality.
    is_issue : bool
        Whether cleanlab calls the label an issue.
    n_views : int
        Number of views of the study; `views` may hold fewer.
    views : tuple of CaseView
        The first views, in order.
    limit : float or None
        Upper end of the overlays' colour scale in logits.
    """

    study: str
    study_type: str
    split: str | None
    label: int
    p_abnormal: float
    is_issue: bool
    n_views: int
    views: tuple[CaseView, ...] = ()
    limit: float | None = None

    @property
    def shown_key(self) -> str:
        """The key without MURA's label in it: study1 for study1_positive."""
        return re.sub(r"_(positive|negative)(?=/|$)", "", self.study)


def write_label_page(
    file: str | os.PathLike[str],
    suspects: Sequence[Suspect],
    *,
    n_reviewed: int,
    n_issues: int,
    is_reported: bool = False,
    about: Mapping[str, str] | None = None,
    note: str | None = None,
    title: str = "Label review",
) -> None:
    """Write one page, which works from the disk, on which a reader notes verdicts and exports them.

    Parameters
    ----------
    file : path
        HTML file to write.
    suspects : sequence of Suspect
        The most suspect first.
    n_reviewed, n_issues : int
        Studies that were ranked, and those that cleanlab calls issues.
    is_reported : bool, default=False
        Whether labels of the reported split are among them. The title then says so.
    about : dict of str to str, optional
        What was run on which data.
    note : str, optional
        Caveat of the data.
    title : str, default="Label review"
        Heading of the page.

    See Also
    --------
    mura_skorch.evaluation.apply_verdicts : Read what the page exports.

    Notes
    -----
    The page shows no label but the one under review: MURA's folders end in the label as published,
    which is left out of the keys on the page. The exported file has the complete keys.

    The page has one script, which only reads the fields and offers them as ``verdicts.csv``. Its
    digest is in the page's policy, so that no other script could run there.
    """
    if is_reported:
        title += REPORTED
    script = template_text("label_review.js.jinja")
    page = render_page(
        "label_review.html.jinja",
        title=title,
        note=note,
        suspects=suspects,
        verdicts=VERDICTS,
        n_reviewed=n_reviewed,
        n_issues=n_issues,
        is_reported=is_reported,
        number_text=number_text,
        map_text=map_text(suspects),
        about=pd.DataFrame((about or {}).items(), columns=["item", "value"]),
        script=script,
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    Path(file).write_text(page, encoding="utf-8")
