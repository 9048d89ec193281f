"""A small web server that ends as a cluster wants it: on SIGTERM it stops accepting, and exits 0.

As pid 1 of a container it must have a handler for SIGTERM, or the kernel drops the signal.
"""

import argparse
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"hello from {os.environ['POD_NAME']}, pid {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        print(f"{self.client_address[0]} {format % args}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, help="end by itself after this long")
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)

    def stop(why: str) -> None:
        print(f"{why}: closing the listener, finishing what was begun")
        # shutdown() waits for the serving loop, so it must not run on the loop's own thread.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, lambda *_: stop("SIGTERM"))
    if options.seconds is not None:
        timer = threading.Timer(options.seconds, stop, ["time is up"])
        timer.daemon = True
        timer.start()
    print(f"pid {os.getpid()} serves on port {options.port}")
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    print("bye")


if __name__ == "__main__":
    main()
