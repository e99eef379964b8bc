"""A network of five convolutions, which trains in seconds, for comparisons on phantoms."""

from itertools import pairwise

from torch import nn

from mura_skorch.models import pool_views

WIDTHS = (1, 16, 32, 64, 64, 96)  # channels


class SmallNetwork(nn.Module):
    """Convolutions with batch norm, an average over pixels, and a linear layer.

    Parameters
    ----------
    augment : callable or None, default=None
        Varies training views.
    max_views : int or None, default=None
        Most views of one study in training.
    """

    def __init__(self, augment=None, max_views=None):
        super().__init__()
        self.augment = augment
        self.max_views = max_views
        layers = []
        for before, after in pairwise(WIDTHS):
            convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(WIDTHS[-1], 1)

    def forward(self, views, view_mask, study_type=None):
        """Return the logits of studies and of views."""
        pixels = views[view_mask].unsqueeze(1).float() / 255
        if self.training and self.augment is not None:
            pixels = self.augment(pixels)
        features = self.features((pixels - 0.5) / 0.25).mean(dim=(2, 3))
        logit = self.classifier(features).squeeze(1).float()
        return pool_views(logit, view_mask), logit
