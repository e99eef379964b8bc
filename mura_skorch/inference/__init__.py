"""Export networks to ONNX, and predict with engines that are faster than torch on a CPU."""

from mura_skorch.inference.export import export_classifier

__all__ = ["export_classifier"]
