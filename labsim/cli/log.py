"""The log of a command: warnings and worse, on stderr, without the secrets of its labs."""

from __future__ import annotations

import logging
import sys


class _WithoutSecrets(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        from labsim.history import without_secrets  # most commands end without a warning

        return without_secrets(super().format(record))


def log_to_stderr() -> None:
    """Let warnings go to stderr, from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_WithoutSecrets("%(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
