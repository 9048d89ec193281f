"""A shop that gets all it needs as containers get it: variables, mounted files, a place to write.

It is ready until SIGTERM. Then it refuses to be ready, finishes what was begun, and ends with 0.
"""

import argparse
import hmac
import json
import os
import pathlib
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CATALOGUE = pathlib.Path("/etc/shop/catalogue.json")  # from a ConfigMap
TOKEN = pathlib.Path("/run/secrets/shop/token")  # from a Secret
ORDERS = pathlib.Path("/var/lib/shop/orders")  # in an emptyDir

stopping = threading.Event()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/ready":
            self.answer(503 if stopping.is_set() else 200, "no\n" if stopping.is_set() else "yes\n")
            return
        # Read each time: under `podvisor serve` an edited ConfigMap is here within a second.
        catalogue = json.loads(CATALOGUE.read_text())
        currency = os.environ["CURRENCY"]
        self.answer(200, "".join(f"{name}: {catalogue[name]} {currency}\n" for name in catalogue))

    def do_POST(self) -> None:
        offered = self.headers.get("Authorization", "")
        if not hmac.compare_digest(offered, f"Bearer {TOKEN.read_text()}"):
            self.answer(401, "who are you?\n")
            return
        with ORDERS.open("a") as orders:
            orders.write(self.path + "\n")
        self.answer(200, f"{len(ORDERS.read_text().splitlines())} ordered\n")

    def answer(self, code: int, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        if self.path != "/ready":  # asked once a second
            print(format % args)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    if os.environ["SHOP_TOKEN"] != TOKEN.read_text():
        raise SystemExit("the token in the environment is not the one in the file")
    server = ThreadingHTTPServer(("0.0.0.0", options.port), Handler)

    def stop(*_: object) -> None:
        print("SIGTERM: closing the shop")
        stopping.set()
        # shutdown() waits for the serving loop, so it must not run on the loop's own thread.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    print(f"pid {os.getpid()} sells at port {options.port}")
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    print("bye")


if __name__ == "__main__":
    main()
