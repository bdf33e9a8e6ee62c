"""``python -m runner`` and the console script ``runner``."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    # Looking for pydantic plugins reads the metadata of every installed package at each start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Who shuts a machine down means the same as who presses Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Imports and configs are made to stay: looking for garbage in them is a tenth of a start.
    # Whatever works for long turns it on again.
    gc.disable()
    try:
        from runner.cli.main import run
        from runner.settings.secrets import RedactedStream, remember_environment

        remember_environment()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A terminal that knows no "→" is no reason to lose a run's last words.
                stream.reconfigure(errors="backslashreplace")
        sys.stdout, sys.stderr = RedactedStream(sys.stdout), RedactedStream(sys.stderr)
        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
