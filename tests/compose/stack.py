"""The stack of `docker-compose.yaml` under podman-compose, brought up in the order that the file states."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

import yaml
from tests.compose.containers import ROOT, Podman, run

PROJECT = "detection"
SECONDS = {"s": 1, "m": 60}


@dataclass(frozen=True)
class Stack:
    """The services, by their names; `variables` are those of the file."""

    podman: Podman
    variables: Mapping[str, str]
    build_arguments: tuple[str, ...]

    @property
    def services(self) -> dict[str, Any]:
        """The services of the file, as it is written."""
        content: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
        return dict(content["services"])

    def compose(self, *arguments: str, timeout: float = 600) -> str:
        """Run podman-compose on the file."""
        build = f"--podman-build-args={' '.join(self.build_arguments)}"
        command = (sys.executable, "-m", "podman_compose", "--project-name", PROJECT, build, *arguments)
        env = {**self.podman.environment, **self.variables}
        return run(*command, env=env, cwd=ROOT, timeout=timeout)

    def up(self) -> None:
        """Start each service when what it depends on is healthy or has ended well, as `up --wait` does.

        Podman runs health checks by systemd's timers, which containers of a test do not have.
        """
        services = {n: s for n, s in self.services.items() if "profiles" not in s}
        graph = {name: service.get("depends_on", {}) for name, service in services.items()}
        for name in TopologicalSorter(graph).static_order():
            for other, dependency in graph[name].items():
                if dependency["condition"] == "service_healthy":
                    self.wait_healthy(other)
                else:
                    assert self.podman("wait", self.container(other)).strip() == "0", self.logs(other)
            self.compose("up", "--detach", "--no-build", "--no-deps", name)
        for name, service in services.items():
            if "healthcheck" in service:
                self.wait_healthy(name)

    def container(self, service: str, number: int = 1) -> str:
        """Return the name of a container."""
        return f"{PROJECT}_{service}_{number}"

    def wait_healthy(self, service: str, number: int = 1) -> None:
        """Run a service's health check until it is green, as often and as long as the file allows."""
        check = self.services[service]["healthcheck"]
        started = time.monotonic()
        allowed = _seconds(check.get("start_period", "0s")) + check["retries"] * _seconds(check["interval"])
        while True:
            code, said = self.check(service, number)
            if code == 0:
                return
            assert time.monotonic() - started < allowed, f"{service}: {said}\n{self.logs(service, number)}"
            time.sleep(min(5, _seconds(check["interval"])))

    def check(self, service: str, number: int = 1) -> tuple[int, str]:
        """Run a service's health check once; returns its exit code, and what it said.

        One that takes longer than its timeout has failed, as for Docker.
        """
        timeout = _seconds(self.services[service]["healthcheck"]["timeout"])
        command = ("podman", "healthcheck", "run", self.container(service, number))
        try:
            done = subprocess.run(
                command,
                env=self.podman.environment,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return 1, f"the health check took longer than {timeout:g} seconds"
        return done.returncode, done.stdout + done.stderr

    def logs(self, service: str, number: int = 1) -> str:
        """Return the end of what a service said."""
        return self.podman("logs", "--tail", "60", self.container(service, number), stderr=subprocess.STDOUT)

    def inside(self, service: str, *command: str, number: int = 1) -> str:
        """Run a command in a service's container; returns what it prints."""
        return self.podman("exec", self.container(service, number), *command)

    def rows(self, database: str, query: str) -> list[list[str]]:
        """Return the rows of a query, as text."""
        command = ("psql", "--username=postgres", f"--dbname={database}", "--no-align", "--tuples-only")
        return [
            line.split("|") for line in self.inside("postgres", *command, "--command", query).splitlines()
        ]


def _seconds(duration: str) -> float:
    return float(duration[:-1]) * SECONDS[duration[-1]]
