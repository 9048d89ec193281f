"""A sidecar that looks at the app once a second until it is told to stop."""

import os
import signal
import sys
import time
import urllib.request

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    time.sleep(1)
    try:
        with urllib.request.urlopen(os.environ["URL"], timeout=1) as answer:
            print(f"the app says: {answer.read().decode().strip()}")
    except OSError as error:
        print(f"the app does not answer: {error}")
