"""Write a miniature MURA folder of drawn, radiograph-like bones."""

from mura_skorch.phantoms.writing import MURA_TYPES, NOTE, write_phantoms

__all__ = ["MURA_TYPES", "NOTE", "write_phantoms"]
