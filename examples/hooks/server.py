"""A server that wants to be warmed up and drained; with --ask, the program that asks it.

Drained means: what was begun is finished, and nothing new is taken. It answers to that when it is.
"""

import argparse
import http.server
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

WARMING = DRAINING = 1.0  # seconds


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/warm":
            time.sleep(WARMING)
            print("warm")
        elif self.path == "/drain":
            print("draining")
            time.sleep(DRAINING)
            print("drained")
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(port: int) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    # On a thread: shutdown() waits for serve_forever() below, which this interrupts.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print("cold, listening")
    server.serve_forever(poll_interval=0.05)
    print("bye")


def ask(port: int, path: str) -> int:
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                return 0 if answer.status == 200 else 1
        except urllib.error.URLError:  # it does not listen yet
            time.sleep(0.1)
    return 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--ask", metavar="PATH")
    options = parser.parse_args()
    if options.ask:
        sys.exit(ask(options.port, options.ask))
    serve(options.port)


if __name__ == "__main__":
    main()
