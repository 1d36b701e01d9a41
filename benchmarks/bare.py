"""gRPC with nothing behind it: what the ingest benchmark's one-record requests are compared with.

    python benchmarks/bare.py PORT

The same library, loop and options as the server, and a handler that answers at once.
"""

from __future__ import annotations

import asyncio
import sys

import grpc
import uvloop

SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"


async def _export(_raw: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return b""


async def _serve(port: int) -> None:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    method = grpc.unary_unary_rpc_method_handler(_export)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, {"Export": method})])
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(sys.argv[1])))
