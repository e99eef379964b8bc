"""Split nested values into JSON and named tensors, and join them again."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

__all__ = ["pack", "unpack"]


def pack(value: Any, tensors: dict[str, torch.Tensor], name: str) -> Any:
    """Return what JSON can hold of a value; its tensors go into a dict.

    Parameters
    ----------
    value : None, bool, int, float, str, ndarray, Tensor, or list, tuple, dict of such
        Keys of a dict may be of any of these types.
    tensors : dict of str to Tensor
        Takes the tensors, on the CPU.
    name : str
        Their common prefix.

    Raises
    ------
    TypeError
        A value is something else.

    Examples
    --------
    >>> tensors = {}
    >>> packed = pack({0: (1.5, torch.ones(2))}, tensors, "x")
    >>> packed, list(tensors)
    ({'dict': [[0, {'tuple': [1.5, {'tensor': 'x.0.1'}]}]]}, ['x.0.1'])
    >>> unpack(packed, tensors)
    {0: (1.5, tensor([1., 1.]))}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str}
    if isinstance(value, Mapping):
        pairs = [[pack(k, {}, ""), pack(v, tensors, f"{name}.{k}")] for k, v in value.items()]
        return {"dict": pairs}
    if isinstance(value, list | tuple):
        items = [pack(item, tensors, f"{name}.{k}") for k, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    raise TypeError(f"expected numbers, texts, arrays or tensors, got {type(value).__name__}")


def unpack(packed: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Return the value of which `pack` returned this."""
    if isinstance(packed, list):
        return [unpack(item, tensors) for item in packed]
    if not isinstance(packed, dict):
        return packed
    if "tensor" in packed:
        return tensors[packed["tensor"]]
    if "array" in packed:
        return np.array(packed["array"], dtype=packed["dtype"])
    if "tuple" in packed:
        return tuple(unpack(item, tensors) for item in packed["tuple"])
    return {unpack(k, tensors): unpack(v, tensors) for k, v in packed["dict"]}
