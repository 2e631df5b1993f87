"""A TCP proxy before a Postgres, which can lose it and can fall silent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from psycopg.conninfo import conninfo_to_dict


@dataclass(slots=True)
class Proxy:
    """Listens on 127.0.0.1:`port`, which stays the same whatever happens to it; begins reachable.

    `silenced` counts the connections that were accepted and never answered.
    """

    target: dict[str, str]
    port: int = 0
    silenced: int = 0
    is_silent: bool = False
    _listener: socket.socket | None = None
    _held: list[socket.socket] = field(default_factory=list)

    def open(self) -> None:
        """Pass on what comes."""
        self._listen(is_silent=False)

    def refuse(self) -> None:
        """Cut every connection and take no more."""
        if self._listener is not None:
            _end(self._listener)  # wakes up the thread that accepts
            self._listener = None
        held, self._held = self._held, []
        for sock in held:
            _end(sock)

    def fall_silent(self) -> None:
        """Cut every connection; accept more and never answer."""
        self._listen(is_silent=True)

    def _listen(self, *, is_silent: bool) -> None:
        self.refuse()
        self.is_silent = is_silent
        self._listener = socket.create_server(("127.0.0.1", self.port))  # sets SO_REUSEADDR
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._held.append(client)
            if self.is_silent:
                self.silenced += 1
                continue
            server = self._dial()
            self._held.append(server)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()

    def _dial(self) -> socket.socket:
        host, port = self.target.get("host", "127.0.0.1"), self.target.get("port", "5432")
        if not host.startswith("/"):
            return socket.create_connection((host, int(port)))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    _end(source)
    _end(sink)


def _end(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()


@contextmanager
def proxy(dsn: str) -> Iterator[Proxy]:
    """A reachable proxy before the server that `dsn` names."""
    held = Proxy({key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None})
    held.open()
    try:
        yield held
    finally:
        held.refuse()
