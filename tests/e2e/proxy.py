"""A TCP proxy before a server that can refuse connections, and can accept them and never answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from psycopg.conninfo import conninfo_to_dict


@dataclass(slots=True)
class Proxy:
    """Proxy on `host`:`port`; the port stays the same when it is closed and opened again.

    `silenced` counts the connections that were accepted and never answered.
    """

    target: dict[str, str]
    host: str = "127.0.0.1"
    port: int = 0
    silenced: int = 0
    is_silent: bool = False
    _listener: socket.socket | None = None
    _sockets: list[socket.socket] = field(default_factory=list)

    def open(self) -> None:
        """Accept connections and pass their data on."""
        self._listen(is_silent=False)

    def refuse(self) -> None:
        """Close every connection and accept no more."""
        if self._listener is not None:
            _end(self._listener)  # ends the thread that accepts
            self._listener = None
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            _end(sock)

    def fall_silent(self) -> None:
        """Close every connection; accept others and never answer."""
        self._listen(is_silent=True)

    def _listen(self, *, is_silent: bool) -> None:
        self.refuse()
        self.is_silent = is_silent
        self._listener = socket.create_server((self.host, self.port))  # sets SO_REUSEADDR
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            if self.is_silent:
                self.silenced += 1
                continue
            server = self._connect()
            self._sockets.append(server)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()

    def _connect(self) -> socket.socket:
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
def proxy(dsn: str, host: str = "127.0.0.1") -> Iterator[Proxy]:
    """A reachable proxy, on an address of this machine, before the server that `dsn` names."""
    target = {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value is not None}
    opened = Proxy(target, host)
    opened.open()
    try:
        yield opened
    finally:
        opened.refuse()
