"""What diffusers and transformers say while they work, caught for the image that it concerns.

Both print warnings to stderr through loggers of their own. That a prompt was cut at 77 tokens
belongs into the row of its image, not into a terminal that nobody reads.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_NOISE = (
    "requires torchvision",
    "Token indices sequence length is longer",
    "have disabled the safety checker",
    "that should be kept in float32: []",
    "This is safe to ignore",
    "The new embeddings will be initialized",
)
"""Parts of messages that say nothing about an image, or say what the user asked for."""

_CHATTY = ("torchao", "torch.utils._pytree")
"""Loggers that warn because torchao is installed, whether or not anybody uses it."""


class Notices:
    """A filter on the two libraries' handlers that keeps a record for whoever listens.

    Records of a thread that listens are kept and not printed; all others are printed as usual.
    """

    def __init__(self) -> None:
        self._thread = threading.local()

    def attach(self) -> None:
        """Import both libraries' logging and stand before their handlers. Imports torch."""
        import torch  # noqa: F401  # It sets the levels of its loggers.

        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        # What diffusers will drop with its next major version is not the user's to mend.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"diffusers\.")
        # transformers first: it already warns while diffusers is being imported.
        from transformers.utils import logging as transformers_logging

        self._filter("transformers")
        transformers_logging.disable_progress_bar()
        from diffusers.utils import logging as diffusers_logging

        self._filter("diffusers")
        diffusers_logging.disable_progress_bar()

    @contextmanager
    def listen(self) -> Iterator[list[str]]:
        """Collect the warnings of this thread, each once; an inner listener hears them alone."""
        outer = getattr(self._thread, "heard", None)
        heard: list[str] = []
        self._thread.heard = heard
        try:
            yield heard
        finally:
            self._thread.heard = outer

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a handler may print the record."""
        heard: list[str] | None = getattr(self._thread, "heard", None)
        if heard is None or record.levelno < logging.WARNING:
            return True
        message = " ".join(record.getMessage().split())
        if message not in heard and not any(part in message for part in _NOISE):
            heard.append(message)
        return False

    def _filter(self, library: str) -> None:
        for handler in logging.getLogger(library).handlers:
            handler.addFilter(self.filter)


NOTICES = Notices()
"""The one of this process: the loggers are the process's too."""
