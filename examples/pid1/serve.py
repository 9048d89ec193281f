"""Waits until SIGTERM, says so and ends with 0."""

import signal
import sys
import time

# The handler itself must not print: it may interrupt a print, which cannot be entered twice.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
try:
    print("serving", flush=True)
    while True:
        time.sleep(3600)
finally:
    print("SIGTERM received, closing down", flush=True)
