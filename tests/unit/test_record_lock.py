"""One writer per run folder, and no lock that outlives its holder."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.record.lock import FolderLock, Owner, this_process
from runner.settings.errors import PrerequisiteError

HOLD = """
import sys
from pathlib import Path
from runner.record.lock import FolderLock
lock = FolderLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=-1, stdout=-1, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def test_a_second_process_is_refused_with_pid_and_host(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with holder(path) as child:
        with pytest.raises(PrerequisiteError) as caught:
            FolderLock(path)
        assert f"process {child.pid} on {socket.gethostname()}" in str(caught.value)
        # The refusal took nothing from the holder.
        assert json.loads(path.read_text())["pid"] == child.pid


def test_a_second_store_in_this_process_is_refused(tmp_path: Path) -> None:
    first = FolderLock(tmp_path / "run.lock")
    with pytest.raises(PrerequisiteError, match=str(os.getpid())):
        FolderLock(tmp_path / "run.lock")
    first.release()
    second = FolderLock(tmp_path / "run.lock")
    assert not second.taken_over
    second.release()


def test_the_lock_of_a_killed_process_is_taken_over_silently(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with holder(path) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        lock = FolderLock(path)
    assert lock.taken_over
    assert json.loads(path.read_text())["pid"] == os.getpid()
    lock.release()
    assert path.read_text() == ""


def test_without_kernel_locks_the_named_owner_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    path = tmp_path / "run.lock"
    with holder(path) as child:
        monkeypatch.setattr("runner.record.lock.fcntl.flock", no_locks)
        with pytest.raises(PrerequisiteError, match=f"process {child.pid}"):
            FolderLock(path)
        child.send_signal(signal.SIGKILL)
        child.wait()
        FolderLock(path).release()
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere", "boot_id": "b", "started": "9"}))
    with pytest.raises(PrerequisiteError, match=r"process 1 on elsewhere.*delete"):
        FolderLock(path)


def test_a_process_is_known_by_more_than_its_number() -> None:
    me = this_process()
    assert me.alive()
    assert not Owner(me.pid, me.host, me.boot_id, me.started + "1").alive()
    assert not Owner(me.pid, me.host, "another boot", me.started).alive()
    assert Owner(me.pid, "elsewhere", "b", "1").alive()


@pytest.mark.parametrize("text", ["", "garbage", "[]", '{"pid": 1}', "\0\0\0"])
def test_a_damaged_lock_file_is_no_obstacle(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.lock"
    path.write_text(text)
    lock = FolderLock(path)
    assert json.loads(path.read_text())["pid"] == this_process().pid
    lock.release()
