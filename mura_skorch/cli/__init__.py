"""The command ``mura-skorch`` and its options; `mura_skorch.commands` does the work.

Modules of this package import nothing that takes long, such as pandas or torch, so that ``--help``
answers at once.
"""
