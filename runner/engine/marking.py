"""Marks: what a finished image's own metadata says, and what is put there on request.

The record always holds the hash of the provider's own bytes. Metadata is inserted without
re-encoding, and a signature comes last, because everything after it would break it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from runner import __version__
from runner.engine.outcome import Written
from runner.images import c2pa, marks
from runner.images.c2pa import Credentials
from runner.images.metadata import NoRoomError, Origin, infotext, insert, xmp_packet
from runner.record.rows import ImageRow
from runner.settings.errors import PrerequisiteError, RequestError
from runner.settings.schema import OutputSettings

_SAMPLER_KEYS = ("scheduler", "sampler", "sampler_name")
_SIGNED = "c2pa"
"""The mark of a signed image."""


def credentials_folder() -> Path:
    """Where ``runner doctor --make-test-certificate`` puts its files."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base, "image-batch-runner", "c2pa").expanduser()


class Marker:
    """Reads and writes the marks of one run's images.

    Args:
        output: What to put into the files.

    Raises:
        RequestError: Both forms of C2PA are asked for.
        PrerequisiteError: Signing is asked for, and the library or the certificate is missing.
    """

    def __init__(self, output: OutputSettings) -> None:
        self._output = output
        self._wanted = frozenset(output.embed)
        self._credentials: Credentials | None = None
        signs = self._wanted & {"c2pa", "c2pa_sidecar"}
        if len(signs) > 1:
            raise RequestError("output.embed: choose c2pa or c2pa_sidecar, not both")
        if signs:
            self._credentials = _credentials(output)

    def __call__(self, written: Written) -> Written:
        """The same record and files with their marks."""
        if not self._wanted and not any(_SIGNED in row.marks for row in written.record.images):
            return written
        images = []
        files, extras = dict(written.files), dict(written.extras)
        for row in written.record.images:
            marked, data, sidecar = self._mark(row, files[row.file_name])
            images.append(marked)
            files[row.file_name] = data
            if sidecar is not None:
                more: Mapping[str, bytes] = extras.get(row.file_name, {})
                extras[row.file_name] = {**more, "manifest.c2pa": sidecar}
        return Written(replace(written.record, images=tuple(images)), files, extras)

    def _mark(self, row: ImageRow, raw: bytes) -> tuple[ImageRow, bytes, bytes | None]:
        signed = _SIGNED in row.marks
        if signed and (info := c2pa.read(raw, row.mime)) is not None:
            row = replace(row, marks=(*row.marks, _told(info)))
        if not self._wanted:
            return row, raw, None
        origin = self._origin(row)
        warnings = list(row.warnings)
        data, sidecar = raw, None
        texts = self._wanted & {"infotext", "xmp"}
        if texts and signed and "c2pa" not in self._wanted:
            warnings.append(
                "infotext and XMP were left out: they would break the provider's C2PA manifest; "
                "add c2pa to output.embed to sign anew with the provider's as parent"
            )
        elif texts:
            text = infotext(origin) if "infotext" in texts else None
            xmp = xmp_packet(origin) if "xmp" in texts else None
            try:
                data = insert(data, text=text, xmp=xmp)
            except NoRoomError as error:
                warnings.append(f"no metadata was put into the file: {error}")
        if self._credentials is not None:
            try:
                made = c2pa.sign(
                    data,
                    row.mime,
                    self._credentials,
                    origin,
                    facts={"cell_id": row.cell_id, "raw_sha256": row.sha256},
                    parent=raw if signed else None,
                    embed="c2pa" in self._wanted,
                )
                data, sidecar = made.data, made.sidecar
            except (NoRoomError, ValueError) as error:
                warnings.append(f"the file was not signed: {error}")
        if data is not raw:
            info = c2pa.read(data, row.mime)
            row = replace(
                row,
                raw_sha256=row.sha256,
                sha256=sha256(data).hexdigest(),
                bytes=len(data),
                marks=(*marks(data), *([] if info is None else [_told(info)])),
            )
        return replace(row, warnings=tuple(warnings)), data, sidecar

    def _origin(self, row: ImageRow) -> Origin:
        private = not self._output.embed_prompt
        used = {**row.params_sent, **row.params_effective}
        sampler = next((used[key] for key in _SAMPLER_KEYS if used.get(key)), None)
        return Origin(
            prompt=None if private else row.prompt,
            negative_prompt=None if private else row.negative_prompt,
            provider=row.provider,
            model=row.model,
            model_version=row.model_reported,
            seed=row.seed_sent,
            steps=None if "steps" in row.params_dropped else row.steps,
            sampler=None if sampler is None else str(sampler),
            guidance_scale=None if "guidance_scale" in row.params_dropped else row.guidance_scale,
            width=row.width,
            height=row.height,
            software=f"image-batch-runner {__version__}",
        )


def _told(info: Mapping[str, str]) -> str:
    """Never *verified*: whom to trust is not ours to say."""
    return f"c2pa {info.get('state', 'unreadable')}, signed by {info.get('signer', 'unknown')}"


def _credentials(output: OutputSettings) -> Credentials:
    if not c2pa.available():
        raise PrerequisiteError(
            "output.embed=[c2pa] needs c2pa-python: pip install 'image-batch-runner[c2pa]'"
        )
    folder = credentials_folder()
    texts = []
    for key, given, name in (
        ("output.c2pa_certificate", output.c2pa_certificate, "chain.pem"),
        ("output.c2pa_key", output.c2pa_key, "key.pem"),
    ):
        path = Path(given).expanduser() if given else folder / name
        try:
            texts.append(path.read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError):
            raise PrerequisiteError(
                f"{key}: {path} is no readable PEM file; name yours, or make one to try it with "
                "`python -m runner doctor --make-test-certificate`"
            ) from None
    return Credentials(*texts)
