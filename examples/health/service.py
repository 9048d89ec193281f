"""A service that says how it is: over HTTP at /healthz and /readyz, and as gRPC's health service.

It is healthy when it has warmed up, and ready until it is told to end. Then it says first that it
wants no more traffic, serves what still comes for a moment, and ends with 0.
"""

import argparse
import asyncio
import contextlib
import signal

import grpc
from aiohttp import web
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICE = "health.Service"
DRAIN = 2.0  # seconds: longer than it takes until everybody knows that it is not ready
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Service:
    def __init__(self) -> None:
        self.warm = False
        self.ready = False

    async def healthz(self, request: web.Request) -> web.Response:
        if not self.warm:
            return web.Response(status=503, text="warming up\n")
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n") if self.ready else web.Response(status=503, text="no\n")

    async def hello(self, request: web.Request) -> web.Response:
        return web.Response(text="hello\n")

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self.hello)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/readyz", self.readyz)
        return app


async def run(port: int, grpc_port: int, warm_up: float, seconds: float | None) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    service = Service()

    runner = web.AppRunner(service.app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", port).start()
    statuses = health.aio.HealthServicer()
    await statuses.set(SERVICE, NOT_SERVING)
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(statuses, server)
    server.add_insecure_port(f"0.0.0.0:{grpc_port}")
    await server.start()
    print(f"listening on {port} and {grpc_port}, warming up")

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopped.wait(), warm_up)
    if not stopped.is_set():
        service.warm = service.ready = True
        await statuses.set(SERVICE, SERVING)
        print("warm: serving")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), seconds)
        print("SIGTERM: no more traffic, please" if stopped.is_set() else "time is up: draining")
        service.ready = False
        await asyncio.sleep(DRAIN)
    await server.stop(grace=1)
    await runner.cleanup()
    print("bye")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--warm-up", type=float, default=0, help="seconds until it is healthy")
    parser.add_argument("--seconds", type=float, help="end by itself after this long")
    options = parser.parse_args()
    asyncio.run(run(options.port, options.grpc_port, options.warm_up, options.seconds))


if __name__ == "__main__":
    main()
