"""A loopback model hub with one repository, as much of its protocol as a download needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


@contextmanager
def serve(repo: str, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder as a repository.

    Yields:
        The hub's address, and the list of files that were fetched, growing.
    """
    fetched: list[str] = []
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            resolve = f"/{repo}/resolve/"
            if path.startswith(resolve):
                name = path.removeprefix(resolve).partition("/")[2]
                if name in files:
                    if with_body:
                        fetched.append(name)
                    body = files[name].read_bytes()
                    return self._send(200, body, with_body, hashlib.sha256(body).hexdigest())
            elif path.startswith(f"/api/models/{repo}/tree/"):
                tree = [
                    {"type": "file", "path": name, "size": path.stat().st_size, "oid": "0" * 40}
                    for name, path in files.items()
                ]
                return self._send(200, json.dumps(tree).encode(), with_body)
            elif path in {f"/api/models/{repo}", f"/api/models/{repo}/revision/main"} or (
                path == f"/api/models/{repo}/revision/{COMMIT}"
            ):
                siblings = [{"rfilename": name} for name in files]
                info = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings}
                return self._send(200, json.dumps(info).encode(), with_body)
            return self._send(404, b"{}", with_body, error="RepoNotFound")

        def _send(
            self, status: int, body: bytes, with_body: bool, etag: str = "", error: str = ""
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", COMMIT)
            if etag:
                self.send_header("ETag", f'"{etag}"')
            if error:
                self.send_header("X-Error-Code", error)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        server.server_close()
