"""Hardware: "auto" goes in, the device and the arithmetic this machine is best at come out."""

import torch

__all__ = ["resolve_device", "resolve_precision"]


def resolve_device(device):
    """Return `device`, with "auto" turned into "cuda" where a GPU answers and "cpu" elsewhere."""
    if not isinstance(device, str) or device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_precision(precision, device):
    """Return the arithmetic of the network.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
        "auto" is bfloat16 where the device has instructions for it, float32 elsewhere.
    device : str or torch.device
        Where the network runs.

    Returns
    -------
    {"float32", "bfloat16"}
    """
    if precision == "auto":
        return "bfloat16" if _has_bfloat16(torch.device(device).type) else "float32"
    if precision not in ("float32", "bfloat16"):
        raise ValueError(
            f"expected precision to be 'auto', 'float32' or 'bfloat16', got {precision!r}"
        )
    return precision


def _has_bfloat16(device_type):
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    # torch before get_capabilities has only this private question; without it: float32.
    ask = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(ask and ask())
