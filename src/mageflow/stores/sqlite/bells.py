"""The doorbell between processes: a socket for each beside the file, that the others' commits ring.

A ring says which records changed and which routes have new rows, or that anything may have changed. It is never waited
for and may be lost: whoever watches also looks from time to time. Where there are no Unix sockets, nothing rings.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Generator, Mapping

import msgspec

from mageflow.core.records import Record, RunRecord
from mageflow.ports.clock import SystemEntropy
from mageflow.stores.watching import Rings, Watchers, ring_out

__all__ = ["Doorbell", "Heard"]

logger = logging.getLogger("mageflow.store")

_LONGEST_PATH = 100
"""Bytes that the path of a socket may have on every system; the longest is 103 to 107."""
_MOST_NAMED = 1000
"""Changed records that a ring names; more than that are «anything»."""
_LARGEST = 1 << 17
_HANGINGS = 5
_HAS_SOCKETS = hasattr(socket, "AF_UNIX")

_entropy = SystemEntropy()


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """What a ring says."""

    keys: list[str]
    roots: list[str]
    routes: list[str]


_ANYTHING = b""
_decoder = msgspec.msgpack.Decoder(Heard)


class Doorbell:
    """The bell of one process at one file, and the ringing of all others.

    The bell hangs in a thread of its own from the moment that somebody watches and the file is known to be ours.

    Args:
        path: of the file.
        watchers: who is rung in this process.
    """

    def __init__(self, path: str, watchers: Watchers) -> None:
        self._folder = f"{os.path.realpath(path)}-bells"
        self._watchers = watchers
        self._lock = threading.Lock()
        self._wanted = False
        self._ready = False
        self._over = False
        self._thread: threading.Thread | None = None
        self._own: str | None = None
        self._owed: set[str] = set()
        """Bells that could not take a ring: the next one tells them to look at everything."""

    def want(self) -> None:
        """Somebody watches."""
        if not self._wanted:
            self._wanted = True
            self._hang()

    def ready(self) -> None:
        """The file was opened, and is ours."""
        if not self._ready:
            self._ready = True
            self._hang()

    def stop(self) -> None:
        """Take the bell down."""
        with self._lock:
            self._over = True
        if self._own is not None:
            self._send({self._own: _ANYTHING})  # it wakes the thread, which sees that it is over

    def join(self, timeout: float | None = None) -> None:
        """Wait until the bell is down, after `stop`, for `timeout` seconds at most."""
        if self._thread is not None:
            self._thread.join(timeout)

    # Ringing the others, in the writer's thread

    def ring(self, changed: Mapping[str, Record | None], routes: set[str]) -> None:
        """Tell the other processes what was committed; never waits."""
        try:
            names = [name for name in os.listdir(self._folder) if name != self._own and name[0] != "."]
        except OSError:  # nobody has a bell
            return
        if not names:
            return
        said = _ANYTHING
        if len(changed) <= _MOST_NAMED:
            roots = {record.root or record.key for record in changed.values() if isinstance(record, RunRecord)}
            said = msgspec.msgpack.encode(Heard(list(changed), sorted(roots), sorted(routes)))
        self._send({name: _ANYTHING if name in self._owed else said for name in names})

    def _send(self, said: Mapping[str, bytes]) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            for name, each in said.items():
                self._send_one(sender, name, each)

    def _send_one(self, sender: socket.socket, name: str, said: bytes) -> None:
        try:
            with _within_reach(self._folder, name) as address:
                sender.sendto(said, address)
        except ConnectionRefusedError:  # its process is dead
            self._owed.discard(name)
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, name))
        except FileNotFoundError:
            self._owed.discard(name)
        except OSError:  # it is full, or not ours to ring
            self._owed.add(name)
        else:
            self._owed.discard(name)

    # Being rung

    def _hang(self) -> None:
        with self._lock:
            if self._wanted and self._ready and not self._over and self._thread is None and _HAS_SOCKETS:
                self._thread = threading.Thread(target=self._listen, name="mageflow-sqlite-bell", daemon=True)
                self._thread.start()

    def _listen(self) -> None:
        try:
            bell, name = _hang_up(self._folder)
        except OSError as error:
            logger.debug("%s: no bell can hang here (%s); changes are looked for instead", self._folder, error)
            return
        self._own = name
        try:
            while not self._over:
                heard = [bell.recv(_LARGEST)]
                with contextlib.suppress(BlockingIOError):
                    while True:
                        heard.append(bell.recv(_LARGEST, socket.MSG_DONTWAIT))
                self._pass_on(heard)
        finally:
            bell.close()
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._folder, name))
                os.rmdir(self._folder)  # if it was the last

    def _pass_on(self, heard: list[bytes]) -> None:
        rings: Rings = {}
        try:
            said = [_decoder.decode(each) for each in heard] if _ANYTHING not in heard else None
        except msgspec.DecodeError:  # another release speaks otherwise
            said = None
        if said is None:
            self._watchers.collect_all(rings)
        else:
            keys = {key for each in said for key in each.keys}
            roots = {root for each in said for root in each.roots}
            self._watchers.collect_unread(keys, roots, {route for each in said for route in each.routes}, rings)
        ring_out(rings)


def _hang_up(folder: str) -> tuple[socket.socket, str]:
    """Give a new bell and its name.

    It gets its name only once it can be rung: a bell that refuses is taken for a dead process's, and removed.
    """
    name = f"{os.getpid()}-{_entropy.token()}"
    bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        for tries_left in reversed(range(_HANGINGS)):
            try:
                os.makedirs(folder, exist_ok=True)
                with _within_reach(folder, f".{name}") as address:
                    bell.bind(address)
                os.rename(os.path.join(folder, f".{name}"), os.path.join(folder, name))
                return bell, name
            except FileNotFoundError:  # the last of the others took the folder with it
                if not tries_left or not os.path.isdir(os.path.dirname(folder)):
                    raise
    except BaseException:
        bell.close()
        raise
    raise AssertionError("unreachable")


@contextlib.contextmanager
def _within_reach(folder: str, name: str) -> Generator[str]:
    """Give an address of a socket in the folder; the system's limit is lower than that of paths."""
    path = os.path.join(folder, name)
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield path
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{place}/{name}"  # where there is no such thing, no bell hangs
    finally:
        os.close(place)
