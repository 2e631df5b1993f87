"""Containers of podman in folders of their own, and the images that stand in for those of the compose file.

The base is Debian's own packages; PostgreSQL and Redis are Debian's, Airflow is made of wheels, with the
Python of the base. Nothing of this machine's settings gets into an image: packages are fetched outside.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
IMAGES = Path(__file__).with_name("images")
PROGRAMS = ("podman", "runc", "debootstrap")
DEBIAN = "http://deb.debian.org/debian"
PACKAGES = ("ca-certificates", "curl", "dumb-init", "postgresql", "procps", "python3", "python3-pip", "redis")
PYTHON = "3.11"
"""The Python of Debian 12, which the stand-in for Airflow's image has."""
CONTAINERS = """\
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{run}/engine"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
"""
STORAGE = """\
[storage]
driver = "overlay"
runroot = "{run}/storage"
graphroot = "{folder}/storage"
"""


def missing() -> str | None:
    """Return why containers cannot be run here; None if they can."""
    if os.geteuid() != 0:
        return "containers are run as root here"
    absent = [program for program in PROGRAMS if not shutil.which(program)]
    return (
        f"{', '.join(absent)} cannot be found: make test-compose installs them on Debian" if absent else None
    )


@dataclass(frozen=True)
class Podman:
    """Podman with all that it keeps below `folder`, and below `run`, a folder below /run."""

    folder: Path
    run: Path

    def __post_init__(self) -> None:
        for path in (self.folder / "networks", self.run):
            path.mkdir(parents=True, exist_ok=True)
        for name, text in (("containers", CONTAINERS), ("storage", STORAGE)):
            content = text.format(folder=self.folder, run=self.run)
            (self.folder / f"{name}.conf").write_text(content)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that podman and podman-compose are started with."""
        return {
            **{name: os.environ[name] for name in ("HOME", "PATH", "LANG") if name in os.environ},
            "CONTAINERS_CONF": str(self.folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf"),
        }

    def __call__(self, *arguments: str, timeout: float = 600, **options: Any) -> str:
        """Run a command of podman; returns what it prints."""
        return run("podman", *arguments, env=self.environment, timeout=timeout, **options)

    def remove(self) -> None:
        """Remove everything: containers, images, networks, volumes and the folders."""
        self("system", "reset", "--force")
        for path in (self.run, self.folder):
            shutil.rmtree(path)


def run(*command: str, timeout: float = 600, **options: Any) -> str:
    """Run a command; returns what it prints, and shows it where the command fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)
    assert done.returncode == 0, f"{' '.join(command)[:500]}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def make_base(podman: Podman) -> None:
    """Make the image that the others begin with; `STAND_IN_BASE` names a folder that keeps its files."""
    files = Path(os.environ.get("STAND_IN_BASE") or podman.folder / "base")
    if not (files / "usr").exists():
        files.parent.mkdir(parents=True, exist_ok=True)
        include = f"--include={','.join(PACKAGES)}"
        run("debootstrap", "--variant=minbase", include, "bookworm", str(files), DEBIAN, timeout=1800)
    archive = podman.folder / "base.tar"
    run("tar", "-C", str(files), "--exclude=./var/cache/apt/archives/*.deb", "-cf", str(archive), ".")
    podman("import", str(archive), "localhost/stand-in-base:latest")
    archive.unlink()


def make_image(podman: Podman, name: str, context: Path) -> None:
    """Make the stand-in of a name; without network."""
    podman("build", "--quiet", "--network=none", "--tag", name, str(context), timeout=1200)


def airflow_context(folder: Path) -> Path:
    """Make what the stand-in for Airflow's image is built of: its packages, as `constraints.txt` has them."""
    shutil.copytree(IMAGES / "airflow", folder)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *project["optional-dependencies"]["maritime"]]
    uv = shutil.which("uv") or str(ROOT / ".venv" / "bin" / "uv")
    run(
        uv, "pip", "install", "--quiet", "--target", str(folder / "site"), "--only-binary", ":all:",
        "--python-version", PYTHON, "--python-platform", f"{platform.machine()}-manylinux_2_31",
        "--constraint", str(ROOT / "constraints.txt"), "apache-airflow-providers-celery[redis]", *required,
    )  # fmt: skip
    (folder / "bin").mkdir()
    for name in ("airflow", "celery"):
        script = folder / "bin" / name
        main = f"import sys\nfrom {name}.__main__ import main\nsys.exit(main())\n"
        script.write_text(f"#!/usr/bin/python3\n{main}")
        script.chmod(0o755)
    return folder


def build_tools(folder: Path) -> list[str]:
    """Fetch what pip builds the package with; returns the arguments of a build without network."""
    wheels, settings = folder / "wheels", folder / "pip.conf"
    run(
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--only-binary",
        ":all:",
        "--dest",
        str(wheels),
        "hatchling",
    )
    settings.write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    return ["--network=none", f"--volume={wheels}:/wheels:ro", f"--volume={settings}:/etc/pip.conf:ro"]
