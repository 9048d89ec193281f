"""Where the `podvisor` command begins: take the signals, then load the rest.

The interpreter's own answer to Ctrl-C is a traceback at whatever line it reached. So before
anything of ours is imported, the signals that end a program are blocked: they stay pending until
a command is ready to take them (`run`, see cli/signals.py) or until it is clear that dying
silently is the right answer (all other commands). Nothing is lost in between.
"""

from __future__ import annotations

# Not `signal`: that imports enum, which takes longer than all of Python's own start so far, and
# meanwhile Ctrl-C would still be a traceback.
import _signal  # type: ignore[import-not-found]
import gc
import posix

# What is imported stays; looking through it for garbage again and again is a tenth of the
# start-up. Whoever goes on for longer turns it on again.
gc.disable()

# What is ignored (nohup, a background job of a script) stays so: blocked, it would be taken.
_signal.pthread_sigmask(
    _signal.SIG_BLOCK,
    [
        number
        for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP)
        if _signal.getsignal(number) != _signal.SIG_IGN
    ],
)

for _fd in (0, 1, 2):
    # Started with one of them closed (`>&-`), the next descriptor we open would take its place,
    # and what is written to "stdout" would go there: to the launcher's socket, say.
    try:
        posix.fstat(_fd)
    except OSError:
        posix.open("/dev/null", posix.O_RDWR)


def main() -> None:
    """The console script."""
    from supervisor.cli import main as cli_main

    cli_main()


if __name__ == "__main__":
    main()
