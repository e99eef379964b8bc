"""Export networks to ONNX, and predict with engines that are faster than torch on a CPU."""
