"""What the commands of `mura_skorch.cli` do."""

__all__ = ["CommandError"]


class CommandError(Exception):
    """An error that a user can fix: its message goes to stderr, and the exit status is 1."""
