"""Tell the callbacks that a fit is over, however it ended."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

__all__ = ["fit_end"]

_log = logging.getLogger(__name__)


@contextmanager
def fit_end(net: Any) -> Iterator[None]:
    """Call ``on_fit_end(net, error=...)`` of every callback that has it, after the block.

    skorch calls no hook after an error. `error` is None after a fit that returns. An interruption
    is recorded, and a line in the log says how to resume.

    Parameters
    ----------
    net : MuraClassifier
        Its training is the block.
    """
    failure = None
    try:
        yield
    except BaseException as error:
        failure = error
        if isinstance(error, KeyboardInterrupt | SystemExit):
            net.update_record(interrupted=True)
        raise
    finally:
        if net.interrupted_:
            _report_interruption(net)
        with ExitStack() as hooks:  # an error in one of them does not stop the others
            for _, callback in reversed(net.callbacks_):  # the last one pushed is called first
                if hasattr(callback, "on_fit_end"):
                    hooks.callback(callback.on_fit_end, net, error=failure)


def _report_interruption(net):
    n_epochs = sum("train_loss" in row for row in net.history)
    if net.checkpoint_path is None:
        how = "pass checkpoint_path=PATH to make a fit resumable"
    else:
        how = f"the same fit with checkpoint_path={str(net.checkpoint_path)!r} continues from there"
    _log.warning("stopped after %d of %d epochs; %s", n_epochs, net.max_epochs, how)
