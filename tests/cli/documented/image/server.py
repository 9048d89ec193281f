"""Stands for the servers of the manifests: files at port 8080; with `liveness`, well for 2 s."""

import http.server
import pathlib
import signal
import sys
import threading
import time

BEGAN = time.monotonic()


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/healthz":
            self.send_response(200 if time.monotonic() - BEGAN < 2 else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


server = http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
if sys.argv[1:] != ["liveness"]:
    print(pathlib.Path("index.html").read_text().strip())
server.serve_forever(poll_interval=0.05)
