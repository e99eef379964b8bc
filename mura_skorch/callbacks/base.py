"""A base class for callbacks of which a checkpoint stores nothing."""

from typing import Any

from skorch.callbacks import Callback

__all__ = ["StatelessCallback"]


class StatelessCallback(Callback):
    """A callback that remembers nothing from one epoch to the next.

    With `checkpoint_path`, a fit takes callbacks that have ``state_dict`` and ``load_state_dict``,
    as these do. Subclasses that carry something from one epoch to the next override both.

    Examples
    --------
    >>> class Announce(StatelessCallback):
    ...     def on_epoch_begin(self, net, **kwargs):
    ...         print(f"epoch {len(net.history)} begins")
    >>> Announce().state_dict()
    {}
    """

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores: nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what a checkpoint stored: nothing."""
