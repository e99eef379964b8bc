"""The fit: device, precision, steps, checkpoints and errors."""
