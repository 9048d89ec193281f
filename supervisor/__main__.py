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
import atexit
import gc
import posix
import sys
from _thread import get_ident as _get_ident

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

    try:
        cli_main()
    except SystemExit as leaving:
        # Who looks on from inside has something to do afterwards: a profiler, a debugger.
        if isinstance(leaving.code, int) and not (sys.gettrace() or sys.getprofile()):
            _end(leaving.code)
        raise


def _end(code: int) -> None:
    """End without the interpreter's taking itself apart; return if more than that is left to do.

    That takes as long as a third of all imports, and the memory is the kernel's anyway.
    """
    threading = sys.modules.get("threading")
    if threading is not None and any(
        not thread.daemon for thread in threading.enumerate() if thread.ident != _get_ident()
    ):
        return  # the interpreter waits for those
    atexit._run_exitfuncs()  # noqa: SLF001  (as multiprocessing does before it ends so)
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        return  # which the interpreter tells in its own way
    posix._exit(code)  # noqa: SLF001


if __name__ == "__main__":
    main()
