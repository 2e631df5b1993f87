"""Connections to a server whose machine does not answer any more."""

from __future__ import annotations

import os
import socket

import pytest
from psycopg.conninfo import make_conninfo
from tests.e2e.proxy import proxy

from airflow_detection.store.connection import connect

OPTIONS = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")


@pytest.mark.parametrize(
    ("given", "limits"),
    [({}, (10, 5, 4, 30_000)), ({"keepalives_idle": 7, "tcp_user_timeout": 9000}, (7, 5, 4, 9000))],
)
def test_a_connection_is_lost_after_half_a_minute_of_silence_or_as_it_says_itself(
    dsn: str, given: dict[str, int], limits: tuple[int, ...]
) -> None:
    with (
        proxy(dsn) as front,
        connect(make_conninfo(dsn, host=front.host, port=front.port, **given)) as conn,
        socket.socket(fileno=os.dup(conn.fileno())) as sock,
    ):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert tuple(sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, o)) for o in OPTIONS) == limits
