"""Environment variables of a version's process: made for it from a list, not taken over.

Standard library only. The task's own variables hold the password of the registry's connection and, below a
LocalExecutor, the secret that signs API tokens.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Collection
from pathlib import Path

from airflow_detection.domain.names import is_secret_variable

KEPT = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "HOSTNAME", "LANG", "LANGUAGE", "TZ", "TZDIR", "TERM"),
        *("AIRFLOW_HOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONHASHSEED", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
        *("PYTHONWARNINGS", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONFAULTHANDLER"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "KRB5_CONFIG", "KRB5CCNAME"),
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
        *("NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "MALLOC_ARENA_MAX", "CUDA_VISIBLE_DEVICES"),
    }
)
"""Variables that every version has where its task has them; and those of the locale, LC_*."""


def replace_environment(named: Collection[str], folder: str) -> None:
    """Leave the variables that are kept or named, and make `folder` the one of temporary files.

    Python, C code, new processes and `/proc` no longer see the others; the memory of this process may.
    """
    wanted = {n: v for n, v in os.environ.items() if _is_wanted(n, named)}
    wanted |= dict.fromkeys(("TMPDIR", "TMP", "TEMP"), folder)
    for name in list(os.environ):  # each is unset in C, too
        del os.environ[name]
    with contextlib.suppress(OSError, AttributeError):  # what C code has set behind Python's back
        ctypes.CDLL(None).clearenv()
    os.environ.update(wanted)
    _erase_initial_block(named)


def _is_wanted(name: str, named: Collection[str]) -> bool:
    return name in KEPT or name.startswith("LC_") or (name in named and not is_secret_variable(name))


def _erase_initial_block(named: Collection[str]) -> None:
    """Overwrite the variables that this program was started with: `/proc/self/environ` shows their memory.

    Linux only. Nothing points there any more: what is left has been set anew.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
        start, end = int(fields[47]), int(fields[48])  # env_start, env_end: fields 50 and 51 of proc(5)
        at = start
        for entry in Path("/proc/self/environ").read_bytes()[: end - start].split(b"\0"):
            if not _is_wanted(os.fsdecode(entry.partition(b"=")[0]), named):
                ctypes.memset(at, 0, len(entry))
            at += len(entry) + 1
