"""What `mageflow doctor` looks at, and what it makes of it."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Mapping
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import mageflow
from mageflow import Overview, RunStatus, WorkerInfo
from mageflow.cli.probing import holders_of, is_locked
from mageflow.project import known_app
from mageflow.wording import listed, plural

__all__ = [
    "Finding",
    "Level",
    "examine_environment",
    "examine_file",
    "examine_lock",
    "examine_runs",
    "examine_workers",
]


class Level(StrEnum):
    """How much a finding matters."""

    FINE = "fine"
    NOTE = "note"
    """Nothing is wrong, and it is good to know."""
    WARNING = "warning"
    """It works, and will hurt or waits for somebody."""
    BROKEN = "broken"


class Finding(BaseModel):
    """Something that was looked at."""

    level: Level
    about: str
    found: str
    remedy: str | None = None


_MEGABYTE = 1024 * 1024
_LITTLE_ROOM = 200 * _MEGABYTE
_NO_ROOM = 10 * _MEGABYTE
_LARGE_LOG = 256 * _MEGABYTE
_SLOW = 0.5
_LOCKED_FOR = 0.5
"""Seconds; a commit of ours takes a few milliseconds."""
_OLDEST_SQLITE = (3, 35, 0)
_EXTRAS: Mapping[str, tuple[str, ...]] = {
    "cli": ("typer", "rich"),
    "fastapi": ("fastapi",),
    "redis": ("redis",),
    "hatchet": ("hatchet-sdk",),
    "taskiq": ("taskiq",),
}
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs")
_VOLATILE = ("tmpfs", "ramfs")


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine_environment() -> list[Finding]:
    """Look at Python, the installed packages and the environment variables."""
    place = Path(mageflow.__file__).parent
    findings = [
        Finding(
            level=Level.FINE,
            about="python",
            found=f"{platform.python_version()} ({sys.executable}), SQLite {sqlite3.sqlite_version}",
        ),
        Finding(level=Level.FINE, about="mageflow", found=f"{_installed('mageflow') or 'not installed'}, in {place}"),
    ]
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        findings[0] = Finding(
            level=Level.BROKEN,
            about="python",
            found=f"its SQLite is {sqlite3.sqlite_version}, and 3.35 or newer is needed",
            remedy="use a newer Python",
        )
    return [*findings, _extras(), *_variables()]


def _extras() -> Finding:
    there: list[str] = []
    absent: list[str] = []
    for extra, packages in _EXTRAS.items():
        versions = {package: _installed(package) for package in packages}
        if all(versions.values()):
            there.append(", ".join(f"{package} {installed}" for package, installed in versions.items()))
        else:
            absent.append(extra)
    found = ", ".join(there) or "none"
    if not absent:
        return Finding(level=Level.FINE, about="extras", found=found)
    wanted = ",".join(absent)
    return Finding(
        level=Level.FINE,
        about="extras",
        found=f"{found}; not installed: {', '.join(absent)}",
        remedy=f"if you need them: pip install 'mageflow[{wanted}]'",
    )


def _variables() -> list[Finding]:
    findings: list[Finding] = []
    named = os.environ.get("MAGEFLOW_STORE")
    if named and "://" not in named and not Path(named).is_absolute():
        findings.append(
            Finding(
                level=Level.WARNING,
                about="settings",
                found=f"MAGEFLOW_STORE={named} is a relative path: it is another file in each folder",
                remedy=f"give the whole path: MAGEFLOW_STORE={Path(named).absolute()}",
            )
        )
    if not named and "HATCHET_CLIENT_TOKEN" in os.environ and "REDIS_URL" in os.environ:
        findings.append(
            Finding(
                level=Level.WARNING,
                about="settings",
                found="HATCHET_CLIENT_TOKEN and REDIS_URL are set, so a Mageflow() that names no engine is refused",
                remedy="write Mageflow(hatchet, redis) in your program, or set MAGEFLOW_STORE to run embedded",
            )
        )
    for name, hurts in (
        ("PYTHONASYNCIODEBUG", "asyncio's debug mode makes every hop several times slower"),
        ("PYTHONTRACEMALLOC", "tracing memory makes everything several times slower"),
    ):
        if os.environ.get(name, "0") not in ("", "0"):
            text = f"{name} is set: {hurts}"
            findings.append(
                Finding(level=Level.WARNING, about="settings", found=text, remedy=f"in production: unset {name}")
            )
    return findings


# The file


def examine_file(file: Path | None) -> list[Finding]:
    """Look at the store's file and the disk under it."""
    if file is None or file.is_dir():  # opening it says what to give instead
        return []
    folder = file.absolute().parent
    if not folder.is_dir():
        text = f"the folder {folder} does not exist"
        return [Finding(level=Level.BROKEN, about="store", found=text, remedy=f"make it: mkdir -p {folder}")]
    findings = [_room(folder)]
    if not file.exists():
        there = f"there is no {file} yet; the first program that uses it makes it"
        remedy = "if you expected one, name it with --store PATH or MAGEFLOW_STORE"
        return [Finding(level=Level.NOTE, about="store", found=there, remedy=remedy), *findings]
    log = Path(f"{file}-wal")
    log_bytes = log.stat().st_size if log.exists() else 0
    sizes = f"{file.absolute()}, {_bytes(file.stat().st_size)}, its log {_bytes(log_bytes)}"
    findings.insert(0, Finding(level=Level.FINE, about="store", found=sizes))
    if log_bytes > _LARGE_LOG:
        findings.append(
            Finding(
                level=Level.WARNING,
                about="store",
                found=f"the write-ahead log has grown to {_bytes(log_bytes)}: something holds a read of the file open",
                remedy="look for a program that has it open for long (fuser, a database browser), and close that",
            )
        )
    unwritable = [path for path in (file, folder) if not os.access(path, os.W_OK)]
    if unwritable:
        text = f"{listed(str(path) for path in unwritable)} cannot be written by this user"
        findings.append(
            Finding(level=Level.BROKEN, about="store", found=text, remedy="run as its owner, or chown what is named")
        )
    return [*findings, *_file_system(folder)]


def examine_lock(file: Path | None) -> Finding | None:
    """Find out whether somebody keeps the store from being written: all else would wait for that."""
    if file is None or not file.is_file() or not is_locked(file, patience=_LOCKED_FOR):
        return None
    holders = holders_of(file)
    who = f"; open in process {listed(holders)}" if holders else ""
    return Finding(
        level=Level.BROKEN,
        about="store",
        found=f"locked: for {_LOCKED_FOR:g} s nobody else could write to {file}{who}",
        remedy="end the transaction that holds it, or the program: a database browser, a backup, a debugger's stop, a "
        "worker that hangs" + ("" if holders else f" (fuser {file} names those that have it open)"),
    )


def _room(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    level = Level.BROKEN if free < _NO_ROOM else Level.WARNING if free < _LITTLE_ROOM else Level.FINE
    remedy = None if level is Level.FINE else "make room on this disk: no commit succeeds on a full one"
    return Finding(level=level, about="disk", found=f"{_bytes(free)} free", remedy=remedy)


def _file_system(folder: Path) -> list[Finding]:
    kind = _kind_of(folder)
    if kind in _NETWORK:
        return [
            Finding(
                level=Level.WARNING,
                about="disk",
                found=f"the file is on a network file system ({kind}), where SQLite's locks cannot be relied on",
                remedy="put it on a disk of this machine",
            )
        ]
    if kind in _VOLATILE:
        return [
            Finding(
                level=Level.WARNING,
                about="disk",
                found=f"the file is in memory ({kind}): a restart of the machine loses it",
                remedy="put it on a disk, unless it is meant to be lost",
            )
        ]
    return []


def _kind_of(folder: Path) -> str | None:
    """Give the type of the file system that a folder is on; None where that cannot be told."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    place = folder.resolve()
    best: tuple[int, str] | None = None
    for line in mounts:
        _, point, kind, *_ = line.split(" ")
        mounted = Path(point.replace("\\040", " "))
        if place.is_relative_to(mounted) and (best is None or len(mounted.parts) >= best[0]):
            best = (len(mounted.parts), kind)
    return best[1] if best is not None else None


def _bytes(count: int) -> str:
    if count < 1024:
        return f"{count} bytes"
    size = float(count)
    for unit in ("KB", "MB", "GB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TB"


# What is in it


def examine_workers(workers: list[WorkerInfo]) -> list[Finding]:
    """Look at the workers that were watched."""
    findings: list[Finding] = []
    for worker in workers:
        who = f"{worker.name} (process {worker.pid} on {worker.host}), {plural(len(worker.tasks), 'task')}"
        holds = f", holds {plural(worker.running, 'run')}"
        if worker.gone:
            text = f"{who}{holds}: its process is no more"
            remedy = "the next worker that starts, or one that runs within its lease, takes its runs back"
            findings.append(Finding(level=Level.WARNING, about="worker", found=text, remedy=remedy))
        elif worker.beats is False:
            text = f"{who}{holds}: it gave no sign of life"
            remedy = (
                "it is stopped, or something holds its process up; after its lease another worker takes its runs back"
            )
            findings.append(Finding(level=Level.WARNING, about="worker", found=text, remedy=remedy))
        else:
            findings.append(Finding(level=Level.FINE, about="worker", found=f"{who}{holds}, beats"))
    return findings


def examine_runs(overview: Overview, workers: list[WorkerInfo]) -> list[Finding]:
    """Look at the figures of a store, and at what waits in it."""
    counts = ", ".join(f"{count:,} {status.value}" for status, count in overview.runs.items() if count)
    findings = [
        _answer(overview),
        *_durability(overview.store),
        Finding(level=Level.FINE, about="runs", found=counts or "none"),
    ]
    live = [worker for worker in workers if not worker.gone]
    waiting = overview.runs.get(RunStatus.QUEUED, 0)
    if waiting and not live:
        are = "is" if waiting == 1 else "are"
        findings.append(
            Finding(
                level=Level.WARNING,
                about="workers",
                found=f"none is running, and {plural(waiting, 'run')} {are} due",
                remedy=f"start your program, or a worker: mageflow worker {known_app() or 'pkg.mod:mage'}",
            )
        )
    elif not live:
        findings.append(Finding(level=Level.NOTE, about="workers", found="none is running"))
    for task, count in overview.unknown_tasks.items():
        findings.append(
            Finding(
                level=Level.WARNING,
                about="task",
                found=f"no worker knows {task!r}, for which {plural(count, 'run')} {'waits' if count == 1 else 'wait'}",
                remedy="start a worker of the code that registers it, or cancel them: mageflow ls --status unroutable",
            )
        )
    return findings


def _durability(facts: Mapping[str, Any]) -> list[Finding]:
    """Say what of the last commits may be lost, and when."""
    if facts.get("store") != "redis":
        text = "may cost the last commits, unless the programs set MageflowConfig(durability='full')"
        return [Finding(level=Level.FINE, about="power cut", found=text)]
    findings = [
        Finding(level=Level.FINE, about="failover", found="may cost the last commits: replication is asynchronous")
    ]
    if not facts.get("append_only"):
        text = "a restart of the server may cost all commits since its last snapshot: it has no append-only file"
        remedy = "CONFIG SET appendonly yes, and the same in its configuration file"
        findings.append(Finding(level=Level.WARNING, about="restart", found=text, remedy=remedy))
    policy = facts.get("eviction")
    if policy not in (None, "noeviction"):
        text = f"the server may throw records away when its memory is full (maxmemory-policy {policy})"
        remedy = "CONFIG SET maxmemory-policy noeviction, and the same in its configuration file"
        findings.append(Finding(level=Level.WARNING, about="memory", found=text, remedy=remedy))
    return findings


def _answer(overview: Overview) -> Finding:
    facts = overview.store
    kept_by = facts.get("server") or f"journal mode {facts.get('journal', 'unknown')}"
    text = (
        f"answers in {overview.answered_in * 1000:.0f} ms: {facts.get('records', 0):,} records, "
        f"{facts.get('outbox', 0):,} due or to come, {kept_by}, schema {facts.get('schema', 'unknown')}"
    )
    if overview.answered_in > _SLOW:
        remedy = "the disk or the network is slow or busy, or another program holds the store up"
        return Finding(level=Level.WARNING, about="store", found=text, remedy=remedy)
    return Finding(level=Level.FINE, about="store", found=text)
