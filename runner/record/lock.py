"""One writer per run folder.

The kernel's own file lock decides, so a killed process leaves no lock behind and nobody ever has to
unlock by hand. The process that writes for a run holds the lock too: where the run was killed, the
lock is free as soon as everything is written down that was on its way. The file also names its
owner (pid, host, boot, start of the process): for the message, and to decide where the file system
has no locks, as on some network mounts.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.settings.errors import PrerequisiteError

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})

LAST_WORDS_S = 60.0
"""Longest that the writer of a killed process is waited for: as long as a slow disk may take."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, named so that a number used again by a later process is not taken for it.

    Attributes:
        pid: Process id.
        host: Name of the machine.
        boot_id: The kernel's id of this boot; empty where there is none.
        started: Start of the process in clock ticks since boot; empty where it cannot be known.
    """

    pid: int
    host: str
    boot_id: str
    started: str

    def alive(self) -> bool:
        """Whether it may still run. A process of another machine may, for all we can know."""
        if self.host != socket.gethostname():
            return True
        return self.boot_id == _boot_id() and self.started == _started(self.pid)


def this_process() -> Owner:
    """The owner that we are."""
    pid = os.getpid()
    return Owner(pid, socket.gethostname(), _boot_id(), _started(pid))


class FolderLock:
    """The lock of a run folder; held until :meth:`release` or the end of the process.

    Args:
        path: The lock file.

    Attributes:
        file: The open lock file, for a process that shall hold the lock too.
        taken_over: Whether the last holder died without releasing it.

    Raises:
        PrerequisiteError: Another live process holds it.
        OSError: The folder is gone or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            self._take()
        except BaseException:
            os.close(self.file)
            raise

    def release(self) -> None:
        """Let others in. The file stays: removing it would race with who waits for it."""
        os.ftruncate(self.file, 0)
        os.close(self.file)

    def _take(self) -> None:
        owner = self._owner()
        try:
            self._flock()
        except BlockingIOError:
            raise self._refusal(self._owner()) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            if owner is not None and owner.alive():
                raise self._refusal(owner) from None
        self.taken_over = owner is not None
        os.ftruncate(self.file, 0)
        os.pwrite(self.file, json.dumps(asdict(this_process())).encode(), 0)
        os.fsync(self.file)

    def _flock(self) -> None:
        until = time.monotonic() + LAST_WORDS_S
        while True:
            try:
                return fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = self._owner()
                if owner is None or owner.alive() or time.monotonic() > until:
                    raise
            time.sleep(0.01)

    def _owner(self) -> Owner | None:
        try:
            return Owner(**json.loads(os.pread(self.file, 4096, 0)))
        except (ValueError, TypeError):
            return None

    def _refusal(self, owner: Owner | None) -> PrerequisiteError:
        who = f"process {owner.pid} on {owner.host}" if owner else "another process"
        remedy = "wait until it ends, or choose another folder"
        if owner is not None and owner.host != socket.gethostname():
            remedy += f"; if that machine is gone, delete {self._path}"
        return PrerequisiteError(f"{self._path.parent} is being written by {who}: {remedy}")


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Start of a process; empty if there is none of that id, or no /proc."""
    try:
        # The process name, in parentheses, may itself hold spaces and parentheses.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""
