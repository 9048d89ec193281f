"""A service that takes its time for an answer, and finishes what it has begun before it ends."""

import http.server
import signal
import sys
import threading
import time

ANSWERING = 0.5  # seconds


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/report":
            print("report begun", flush=True)
            time.sleep(ANSWERING)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # closing it waits for the requests that were begun


server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
# On a thread: shutdown() waits for serve_forever() below, which this interrupts.
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever(poll_interval=0.05)
server.server_close()
print("all reports are finished", flush=True)
