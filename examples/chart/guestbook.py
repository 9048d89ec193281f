"""A guestbook: `serve` shows and takes entries, `greet URL` writes the first one.

Entries are taken from whoever knows the moderator's word. SIGTERM ends the server with 0.
"""

import argparse
import hmac
import os
import pathlib
import signal
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ENTRIES = pathlib.Path("/data/entries.txt")  # the init container has made it


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(200, ENTRIES.read_bytes())

    def do_POST(self) -> None:
        entry = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        known = self.headers.get("X-Moderator", "")
        if not hmac.compare_digest(known, os.environ["GUESTBOOK_MODERATOR"]):
            self.answer(403, b"not you\n")
            return
        with ENTRIES.open("ab") as file:
            file.write(entry + b"\n")
        print(f"entry: {entry.decode()}")
        self.answer(201, b"")

    def answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve() -> None:
    port = int(os.environ["GUESTBOOK_PORT"])
    server = ThreadingHTTPServer(("0.0.0.0", port), Handler)
    # On a thread: shutdown() waits for serve_forever() below, which this interrupts.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"open at port {port}")
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    print("closed")


def greet(url: str) -> None:
    headers = {"X-Moderator": os.environ["GUESTBOOK_MODERATOR"]}
    request = urllib.request.Request(url, b"The first entry is ours.", headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=5):
            print("greeted")
    except urllib.error.URLError as error:
        sys.exit(f"cannot greet: {error}")


def main() -> None:
    parser = argparse.ArgumentParser()
    todo = parser.add_subparsers(dest="todo", required=True)
    todo.add_parser("serve")
    todo.add_parser("greet").add_argument("url")
    options = parser.parse_args()
    if options.todo == "serve":
        serve()
    else:
        greet(options.url)


if __name__ == "__main__":
    main()
