"""Waits until SIGTERM, says so and ends with 0."""

import signal
import sys
import time


def stop(*_: object) -> None:
    print("SIGTERM received, closing down", flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
print("serving", flush=True)
while True:
    time.sleep(3600)
