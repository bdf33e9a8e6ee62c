"""A loopback model hub with one repository, as much of its protocol as a download needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@dataclass
class Hub:
    """One repository and what was asked of it.

    Attributes:
        repo: Its name.
        commits: Commit to the folder with its files.
        main: The commit where the branch ``main`` stands.
        closed: Only those who were let in may read it.
        address: The hub's address.
        fetched: Commit and name of every file that was fetched.
    """

    repo: str
    commits: dict[str, Path]
    main: str = COMMIT
    closed: bool = False
    address: str = ""
    fetched: list[tuple[str, str]] = field(default_factory=list)

    def move(self, commit: str, folder: Path) -> None:
        """Another commit, where the branch stands from now on."""
        self.commits[commit] = folder
        self.main = commit

    def files(self, commit: str) -> dict[str, Path]:
        folder = self.commits[commit]
        return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}


@contextmanager
def serve(repo: str, folder: Path) -> Iterator[Hub]:
    """Serve a folder as a repository."""
    hub = Hub(repo, {COMMIT: folder})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            resolve, api = f"/{repo}/resolve/", f"/api/models/{repo}"
            if not path.startswith((resolve, api)):
                return self._send(404, b"{}", with_body, error="RepoNotFound")
            if hub.closed:
                return self._send(401, b"{}", with_body, error="GatedRepo")
            if path.startswith(resolve):
                revision, _, name = path.removeprefix(resolve).partition("/")
            else:
                what, _, revision = path.removeprefix(api).lstrip("/").partition("/")
                revision = revision.partition("/")[0] or "main"
            commit = hub.main if revision == "main" else revision
            if commit not in hub.commits:
                return self._send(404, b"{}", with_body, error="RevisionNotFound")
            files = hub.files(commit)
            if path.startswith(resolve):
                if name not in files:
                    return self._send(404, b"{}", with_body, error="EntryNotFound")
                if with_body:
                    hub.fetched.append((commit, name))
                body = files[name].read_bytes()
                etag = hashlib.sha256(body).hexdigest()
                return self._send(200, body, with_body, commit=commit, etag=etag)
            answer: object = {
                "id": repo,
                "modelId": repo,
                "sha": commit,
                "siblings": [{"rfilename": name} for name in files],
            }
            if what == "tree":
                answer = [
                    {"type": "file", "path": name, "size": path.stat().st_size, "oid": "0" * 40}
                    for name, path in files.items()
                ]
            return self._send(200, json.dumps(answer).encode(), with_body, commit=commit)

        def _send(
            self,
            status: int,
            body: bytes,
            with_body: bool,
            *,
            commit: str = "",
            etag: str = "",
            error: str = "",
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in (
                ("X-Repo-Commit", commit),
                ("ETag", etag and f'"{etag}"'),
                ("X-Error-Code", error),
            ):
                if value:
                    self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
