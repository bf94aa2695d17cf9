"""Signals while Lightning trains: SIGTERM and Ctrl-C stay as they are outside."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback


class OwnSigterm(Callback):
    """Handles SIGTERM as before `fit`: Lightning's handler may wait for other ranks for ever."""

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Remembers the handler."""
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Puts it back."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)


@contextmanager
def keyboard_interrupts() -> Iterator[None]:
    """A stop inside `fit` stays the KeyboardInterrupt it was; Lightning would exit with code 1."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
    finally:
        if main:
            signal.signal(signal.SIGINT, handler)
