"""Join studies with different numbers of views into one padded batch and its mask."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

__all__ = ["StudyCollate"]


class StudyCollate:
    """Join studies into one batch, zero-padded to the longest study.

    Examples
    --------
    >>> import torch
    >>> samples = [({"views": torch.ones(n, 4, 4, dtype=torch.uint8), "study_type": 0}, 1.0)
    ...            for n in (1, 3)]
    >>> inputs, label = StudyCollate()(samples)
    >>> inputs["views"].shape, inputs["view_mask"].sum(dim=1).tolist()
    (torch.Size([2, 3, 4, 4]), [1, 3])
    """

    def __call__(
        self, samples: Sequence[tuple[dict[str, Any], float]]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return one batch.

        Parameters
        ----------
        samples : list of (dict, float)
        As `StudyDataset` returns them, at least one.

        Returns
        -------
        inputs : dict
            ``views`` uint8 (B, V, H, W), ``view_mask`` bool (B, V), True where a view is real,
            and ``study_type`` int64 (B,). If the samples have it, also ``row`` int64 (B,): the
            study's row in its table, for messages. The network does not receive it.
        label : Tensor of shape (B,), float32
        """
        inputs, labels = zip(*samples, strict=True)
        views = [study["views"] for study in inputs]
        n_views = torch.tensor([len(study) for study in views])
        batch = {
            "views": pad_sequence(views, batch_first=True),
            "view_mask": torch.arange(int(n_views.max())) < n_views[:, None],
            **{
                name: torch.tensor([study[name] for study in inputs])
                for name in ("study_type", "row")
                if name in inputs[0]
            },
        }
        return batch, torch.tensor(labels, dtype=torch.float32)

    def __repr__(self):
        return "StudyCollate()"
