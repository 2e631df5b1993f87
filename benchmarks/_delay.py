"""A TCP proxy before a Postgres that makes each direction take half of a round trip longer."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from psycopg.conninfo import conninfo_to_dict, make_conninfo


@contextmanager
def delayed(dsn: str, rtt_s: float) -> Iterator[str]:
    """Connection string of the same database, `rtt_s` seconds further away."""
    target = conninfo_to_dict(dsn)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, target, rtt_s / 2), daemon=True).start()
        yield make_conninfo(dsn, host="127.0.0.1", port=listener.getsockname()[1], sslmode="disable")


def _accept(listener: socket.socket, target: dict[str, str], delay_s: float) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{target['host']}/.s.PGSQL.{target.get('port', '5432')}")
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink in ((client, server), (server, client)):
            chunks: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            threading.Thread(target=_receive, args=(source, chunks, delay_s), daemon=True).start()
            threading.Thread(target=_send, args=(sink, chunks), daemon=True).start()


def _receive(source: socket.socket, chunks: queue.SimpleQueue[tuple[float, bytes]], delay_s: float) -> None:
    chunk = b"-"
    while chunk:
        try:
            chunk = source.recv(1 << 20)
        except OSError:
            chunk = b""
        chunks.put((time.monotonic() + delay_s, chunk))


def _send(sink: socket.socket, chunks: queue.SimpleQueue[tuple[float, bytes]]) -> None:
    with suppress(OSError):
        while True:
            due_s, chunk = chunks.get()
            time.sleep(max(0.0, due_s - time.monotonic()))
            if not chunk:
                break
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_RDWR)
