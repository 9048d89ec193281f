"""Where the `podvisor` command begins: take the signals, then load the rest.

The interpreter's own answer to Ctrl-C is a traceback at whatever line it reached. So before
anything of ours is imported, the signals that end a program are blocked: they stay pending until
a command is ready to answer them (`run` on its event loop) or until it is clear that dying
silently is the right answer (all other commands). Nothing is lost in between.
"""

from __future__ import annotations

import signal

signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))


def main() -> None:
    """The console script."""
    from supervisor.cli import main as cli_main

    cli_main()


if __name__ == "__main__":
    main()
