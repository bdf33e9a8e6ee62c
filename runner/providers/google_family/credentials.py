"""Application default credentials: a file or the metadata server, turned into short-lived tokens.

The file itself is read by google-auth and goes nowhere else: what is sent is a token, and only to
the base URL's own host.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runner.providers.contract import ProviderError
from runner.providers.net import Http
from runner.providers.net.threads import in_thread
from runner.settings.errors import PrerequisiteError
from runner.settings.secrets import remember

VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
PROJECT_VARIABLES = ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT")
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_PRODUCT_NAME = Path("/sys/class/dmi/id/product_name")


class GoogleCredentials:
    """Finds credentials and project, and makes the headers of a request.

    Args:
        http: Knows which variable names the file.
        project: The project that the user chose.
    """

    def __init__(self, http: Http, project: str | None) -> None:
        self._http = http
        self._chosen = project
        self._found: Any = None
        self._project: str | None = None
        self._lock = asyncio.Lock()

    @property
    def project(self) -> str:
        """The project, once :meth:`open` has found it."""
        return self._project or ""

    def check_ready(self) -> None:
        """Look for a file and a project, without any network.

        Raises:
            PrerequisiteError: One of them is missing.
        """
        held = self._file()
        if held is None and not _on_google():
            raise PrerequisiteError(
                "provider vertex: no Google credentials; log in with `gcloud auth "
                f"application-default login`, or set `export {self._variable}=FILE` to a "
                "service account's key"
            )
        if self._known_project(held) is None and held is not None:
            raise _no_project()

    async def open(self) -> None:
        """Load the credentials.

        Raises:
            PrerequisiteError: There are none, or no project.
        """
        from google.auth.exceptions import GoogleAuthError

        try:
            self._found, found = await in_thread(self._load)
        except (GoogleAuthError, ValueError) as error:
            raise PrerequisiteError(
                f"provider vertex: the Google credentials cannot be used ({type(error).__name__}); "
                "log in anew with `gcloud auth application-default login`"
            ) from None
        self._project = self._known_project(None) or found
        if self._project is None:
            raise _no_project()

    async def headers(self) -> Mapping[str, str]:
        """The headers with a token that is still good.

        Raises:
            ProviderError: No token was given.
        """
        async with self._lock:
            if not self._found.valid:
                await self._refresh()
        headers = {"authorization": f"Bearer {self._found.token}"}
        if self._found.quota_project_id:
            headers["x-goog-user-project"] = self._found.quota_project_id
        return headers

    async def _refresh(self) -> None:
        from google.auth.exceptions import GoogleAuthError, TransportError
        from google.auth.transport.requests import Request

        try:
            await in_thread(lambda: self._found.refresh(Request()))
        except GoogleAuthError as error:
            # Its words repeat the token server's answer, and are left out.
            again = error.retryable or isinstance(error, TransportError)
            raise ProviderError(
                "transient" if again else "auth",
                f"no token for the Google credentials (from {self._variable}, or gcloud's login); "
                "`gcloud auth application-default login` logs in anew",
                code="no_token",
            ) from None
        self._http.keys.hold(self._found.token)

    @property
    def _variable(self) -> str:
        return self._http.keys.variable

    def _load(self) -> tuple[Any, str | None]:
        import google.auth
        from google.auth import identity_pool, impersonated_credentials
        from google.oauth2 import credentials as user
        from google.oauth2 import service_account

        path = self._path()
        if path is None or self._variable == VARIABLE:
            found, project = google.auth.default(scopes=SCOPES)
            return found, project
        held = _read(path, self._variable)
        readers: Mapping[object, Callable[..., Any]] = {
            "service_account": service_account.Credentials.from_service_account_info,
            "authorized_user": user.Credentials.from_authorized_user_info,
            "external_account": identity_pool.Credentials.from_info,
            "impersonated_service_account": (
                impersonated_credentials.Credentials.from_impersonated_service_account_info
            ),
        }
        if held["type"] not in readers:
            raise ValueError("credentials of an unknown type")
        loaded = readers[held["type"]](held, scopes=SCOPES)
        return loaded, self._known_project(held)

    def _path(self) -> Path | None:
        """The file that the variable names, or that gcloud has written."""
        named = os.environ.get(self._variable, "").strip()
        if named:
            return Path(named)
        home = os.environ.get("CLOUDSDK_CONFIG")
        if home is None and os.name == "nt":
            home = str(Path(os.environ.get("APPDATA", "~")) / "gcloud")
        written = Path(home or "~/.config/gcloud").expanduser()
        path = written / "application_default_credentials.json"
        return path if path.is_file() else None

    def _file(self) -> Mapping[str, Any] | None:
        path = self._path()
        return None if path is None else _read(path, self._variable)

    def _known_project(self, held: Mapping[str, Any] | None) -> str | None:
        named = (os.environ.get(name, "").strip() for name in PROJECT_VARIABLES)
        found = self._chosen or next((name for name in named if name), None)
        inside = (held or {}).get("project_id")
        return found or (inside if isinstance(inside, str) and inside else None)


def _read(path: Path, variable: str) -> Mapping[str, Any]:
    """The file as JSON. Neither its path nor its content is repeated in a message."""
    try:
        held = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        held = None
    if not isinstance(held, dict) or "type" not in held:
        raise PrerequisiteError(
            f"provider vertex: {variable} must hold the path of a credentials file that can be "
            "read: a service account's key, or what `gcloud auth application-default login` writes"
        )
    for name in ("private_key", "refresh_token", "client_secret"):
        if isinstance(held.get(name), str):
            remember(held[name])
    return held


def _no_project() -> PrerequisiteError:
    return PrerequisiteError(
        "provider vertex: no Google Cloud project; set provider.options.project=ID, or "
        f"`export {PROJECT_VARIABLES[0]}=ID`"
    )


def _on_google() -> bool:
    """Whether a metadata server is likely: on Google's machines, or where one is named."""
    if any(os.environ.get(name) for name in ("GCE_METADATA_HOST", "K_SERVICE", "CLOUD_RUN_JOB")):
        return True
    try:
        return _PRODUCT_NAME.read_text().startswith("Google")
    except OSError:
        return False
