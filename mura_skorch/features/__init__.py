"""Frozen features of studies, for scikit-learn's own models: fast to fit, less accurate."""

from mura_skorch.features.embedder import StudyEmbedder

__all__ = ["StudyEmbedder"]
