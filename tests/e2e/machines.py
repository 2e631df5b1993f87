"""Machines for tests: network namespaces with a host name each, whose links can be cut."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import pytest

PROGRAMS = ("ip", "unshare", "hostname")


def absent(reason: str) -> None:
    """Skip the test, but fail it in CI: what it needs is not here."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A cable between this machine, where it is `device` and has the address `here`, and another one."""

    device: str
    here: str

    def cut(self) -> None:
        """Lose whatever is sent from now on; neither end is told."""
        _ip("link", "set", self.device, "down")

    def mend(self) -> None:
        """Pass on again what is sent."""
        _ip("link", "set", self.device, "up")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine that has nothing but its two links: `services` and, for the registry alone, `registry`."""

    name: str
    services: Link
    registry: Link

    def argv(self, program: Sequence[str]) -> list[str]:
        """Return the command that runs a program on this machine."""
        with_name = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name]
        return ["ip", "netns", "exec", self.name, *with_name, *program]

    def pids(self) -> list[int]:
        """Return the ids of all its processes."""
        return [int(pid) for pid in _ip("netns", "pids", self.name).split()]

    def kill(self) -> None:
        """Kill all its processes, as the loss of its power would."""
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


@contextmanager
def machine() -> Iterator[Machine]:
    """A machine without a process; skips where this user cannot make one."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        absent(f"{', '.join(missing)} not installed here: no network namespace can be made")
    name, subnet = f"detection-{uuid.uuid4().hex[:8]}", uuid.uuid4().bytes
    with ExitStack() as stack:
        try:
            _ip("netns", "add", name)
        except subprocess.CalledProcessError as error:
            absent(f"no network namespace can be made here: {error.stderr.strip()}")
        stack.callback(_ip, "netns", "del", name)
        _ip("-n", name, "link", "set", "lo", "up")
        links = [
            _link(name, kind, f"10.{64 + subnet[0] % 128}.{subnet[1]}", 4 * n) for n, kind in enumerate("sr")
        ]
        made = Machine(name=name, services=links[0], registry=links[1])
        stack.callback(made.kill)
        yield made


def _link(name: str, kind: str, network: str, host: int) -> Link:
    here, there = (f"dt{name[-8:]}{kind}{end}" for end in "01")
    _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
    _ip("addr", "add", f"{network}.{host + 1}/30", "dev", here)
    _ip("link", "set", here, "up")
    _ip("-n", name, "addr", "add", f"{network}.{host + 2}/30", "dev", there)
    _ip("-n", name, "link", "set", there, "up")
    return Link(device=here, here=f"{network}.{host + 1}")
