"""Which process this is, and whether another one of this machine is still there."""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from pathlib import Path

__all__ = ["is_gone", "this_machine"]


@lru_cache(maxsize=1)
def this_machine() -> str:
    """Name the space in which process ids are unique: host, boot and, on Linux, the container's pid namespace."""
    parts = [socket.gethostname()]
    for read in (_boot, _pid_namespace):
        try:
            parts.append(read())
        except OSError:
            continue
    return "/".join(parts)


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _pid_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def is_gone(machine: str, pid: int) -> bool:
    """Whether the process is surely gone: False where that cannot be told from here."""
    if os.name != "posix" or machine != this_machine() or pid <= 0:  # elsewhere a signal 0 is a signal
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
