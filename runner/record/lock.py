"""One writer per run folder.

The kernel's own file lock decides, so a killed process leaves no lock behind and nobody ever has to
unlock by hand. The file also names its owner (pid, host, boot, start of the process): for the
message, and to decide where the file system has no locks, as on some network mounts.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.settings.errors import PrerequisiteError

_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


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
        taken_over: Whether the last holder died without releasing it.

    Raises:
        PrerequisiteError: Another live process holds it.
        OSError: The folder is gone or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            self._take()
        except BaseException:
            os.close(self._file)
            raise

    def release(self) -> None:
        """Let others in. The file stays: removing it would race with who waits for it."""
        os.ftruncate(self._file, 0)
        os.close(self._file)

    def _take(self) -> None:
        owner = self._owner()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._refusal(self._owner()) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            if owner is not None and owner.alive():
                raise self._refusal(owner) from None
        self.taken_over = owner is not None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(asdict(this_process())).encode(), 0)
        os.fsync(self._file)

    def _owner(self) -> Owner | None:
        try:
            return Owner(**json.loads(os.pread(self._file, 4096, 0)))
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
