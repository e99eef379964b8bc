"""Binary cross-entropy of studies, with class weights for each study type."""

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

__all__ = ["StudyTypeBCE"]


class StudyTypeBCE(nn.BCEWithLogitsLoss):
    """Binary cross-entropy with one pair of class weights per study type.

    Parameters
    ----------
    level : {"study", "view"}, default="study"
        "study": the loss of the study's probability, averaged over the B studies of the
        batch. "view": the paper's loss of each view with its study's label, summed over views and
        divided by B, so that an epoch's average does not depend on the batches.
    count : {"views", "studies"}, default="views"
        What the class weights are counted from in the training part; the paper counts images, that
        is views. The default `level` and `count` do not balance the classes exactly, see Notes.

    Attributes
    ----------
    class_weight : Tensor of shape (T + 1, 2), float32
        Row t has the weights of the normal and the abnormal term for study type t. The last row is
        for types that were not in training. A buffer: part of the state dict.

    Notes
    -----
    For type t with A abnormal and N normal views in the training part [1]_,

        L = - w_1 y log p - w_0 (1 - y) log(1 - p),  w_1 = N / (A + N),  w_0 = A / (A + N).

    The two classes have equal total weight if the loss sums what the weights count: the paper's
    pair ``level="view"`` with ``count="views"``, or ``level="study"`` with ``count="studies"``. The
    default counts views in a loss of studies. Normal and abnormal studies differ in their number
    of views, so the abnormal share of the total weight is not exactly a half: on MURA's train split
    .449 for fingers, .461 for forearms, .468 for elbows, .519 for shoulders.

    A subclass of ``BCEWithLogitsLoss`` so that skorch applies the sigmoid when it predicts.

    References
    ----------
    .. [1] Rajpurkar et al., arXiv:1712.06957, section 3.1.
    """

    def __init__(
        self,
        level: Literal["study", "view"] = "study",
        count: Literal["views", "studies"] = "views",
    ) -> None:
        super().__init__()
        for name, value, allowed in (
            ("level", level, ("study", "view")),
            ("count", count, ("views", "studies")),
        ):
            if value not in allowed:
                raise ValueError(f"expected {name} to be one of {allowed}, got {value!r}")
        self.level = level
        self.count = count
        self.class_weight: torch.Tensor
        self.register_buffer("class_weight", torch.full((1, 2), 0.5))

    def take_study_types(self, before: Sequence[str], after: Sequence[str]) -> None:
        """Extend `class_weight` to a longer list of types; known types keep their weights.

        Parameters
        ----------
        before, after : sequence of str
            Names of the rows before and after the call. New types get 0.5 and 0.5.
        """
        weight = self.class_weight.new_full((len(after) + 1, 2), 0.5)
        rows = [after.index(name) for name in before]
        if len(rows) + 1 == len(self.class_weight):
            weight[rows] = self.class_weight[:-1]
        self.class_weight = weight

    def fit_weights(
        self,
        study_type: np.ndarray,
        label: np.ndarray,
        n_views: np.ndarray,
        study_types: Sequence[str],
    ) -> None:
        """Set `class_weight` from the counts of the training part.

        Parameters
        ----------
        study_type : ndarray of shape (n_studies,), int
            Index of each training study's type.
        label : ndarray of shape (n_studies,)
            1 abnormal, 0 normal.
        n_views : ndarray of shape (n_studies,), int
            Views of each study.
        study_types : sequence of str
            The T names. A type without a training study keeps the weights of an earlier call, or
            0.5 and 0.5. A type whose training studies are all of one class gets 0.5 and 0.5, with
            a warning.
        """
        amount = torch.tensor(n_views if self.count == "views" else [1] * len(n_views))
        n_types = len(study_types)
        cell = torch.tensor(study_type) * 2 + torch.tensor(label).long()
        counts = torch.bincount(cell, amount.double(), minlength=2 * n_types + 2)
        counts = counts.view(n_types + 1, 2)
        usable = (counts > 0).all(dim=1, keepdim=True)
        share = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
        # Each class is weighted by the share of the other class.
        weight = torch.where(usable, share.flip(1), 0.5).float().to(self.class_weight.device)
        if weight.shape == self.class_weight.shape:  # an earlier call has counted
            is_absent = (counts.sum(dim=1) == 0).to(weight.device)
            weight[is_absent] = self.class_weight[is_absent]
        self.class_weight = weight
        for name, (n_normal, n_abnormal) in zip(study_types, counts.tolist(), strict=False):
            if (n_normal > 0) != (n_abnormal > 0):
                only = "normal" if n_normal else "abnormal"
                warnings.warn(
                    f"every training study of {name} is {only}: its loss is weighted 0.5 and "
                    "0.5; add studies of the other class or leave the type out",
                    stacklevel=2,
                )

    def forward(  # type: ignore[override]
        self,
        logits: tuple[torch.Tensor, torch.Tensor],
        label: torch.Tensor,
        study_type: torch.Tensor,
        view_mask: torch.Tensor,
    ) -> torch.Tensor:
        """Return the loss of a batch.

        Parameters
        ----------
        logits : tuple of Tensors of shape (B,) and (N,), float32
            Study logits and view logits, as returned by `StudyNetwork`.
        label : Tensor of shape (B,), float32
            1 abnormal, 0 normal.
        study_type : Tensor of shape (B,), int64
            Row of `class_weight`.
        view_mask : Tensor of shape (B, V), bool
            True for views, False for padding.

        Returns
        -------
        Tensor of shape (), float32
        """
        study_logit, view_logit = logits
        weight = self.class_weight[study_type, label.long()]
        if self.level == "study":
            return functional.binary_cross_entropy_with_logits(study_logit, label, weight)
        # Not nonzero, which makes the host wait for a GPU: the number of views is known.
        n_views = view_mask.sum(dim=1)
        study = torch.arange(len(label), device=label.device)
        study_of_view = study.repeat_interleave(n_views, output_size=len(view_logit))
        total = functional.binary_cross_entropy_with_logits(
            view_logit, label[study_of_view], weight[study_of_view], reduction="sum"
        )
        return total / len(label)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        """Resize `class_weight` to the number of study types in the state."""
        stored = state_dict.get(prefix + "class_weight")
        if stored is not None:
            self.class_weight = self.class_weight.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)
