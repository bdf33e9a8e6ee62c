"""Marks on request, through the command line: what the file says, what the record keeps."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path

import pytest

from runner.images import c2pa
from tests.conftest import RunCli

pytest.importorskip("c2pa")
FAKE = ("provider=fake", "prompt=a fox", "seed=3")


def row_and_file(run: Path) -> tuple[dict[str, object], bytes]:
    (line,) = (run / "images/metadata.jsonl").read_text().splitlines()
    row = json.loads(line)
    return row, (run / "images" / row["file_name"]).read_bytes()


def test_all_marks_in_one_file(run_cli: RunCli, tmp_path: Path) -> None:
    config = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    embed = "output.embed=[infotext,xmp,c2pa]"
    early = run_cli(*FAKE, embed, "hydra.run.dir=run", env=config)
    assert early.code == 3
    assert "doctor --make-test-certificate" in early.err
    assert not (tmp_path / "run").exists()

    assert run_cli("doctor", "--make-test-certificate", env=config).code == 0
    key = tmp_path / "config/image-batch-runner/c2pa/key.pem"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert run_cli("doctor", "--make-test-certificate", env=config).code == 2

    assert run_cli(*FAKE, "hydra.run.dir=plain").code == 0
    assert run_cli(*FAKE, embed, "hydra.run.dir=run", env=config).code == 0
    plain, raw = row_and_file(tmp_path / "plain")
    row, data = row_and_file(tmp_path / "run")
    assert row["raw_sha256"] == plain["sha256"] == hashlib.sha256(raw).hexdigest()
    assert row["sha256"] == hashlib.sha256(data).hexdigest()
    assert row["pixel_sha256"] == plain["pixel_sha256"]
    assert row["marks"] == [
        "c2pa", "infotext", "iptc", "c2pa Valid, signed by image-batch-runner test",
    ]  # fmt: skip
    found = c2pa.read(data, "image/png")
    assert found is not None
    assert found["state"] == "Valid"
    assert run_cli("verify", "run").code == 0
    again = run_cli("rerun", "run", env=config)
    assert "1 identical-bytes" in again.out
    for path in (path for path in tmp_path.rglob("*") if path.is_file() and path != key):
        assert b"PRIVATE KEY" not in path.read_bytes()


def test_a_sidecar_stands_beside_an_untouched_file(run_cli: RunCli, tmp_path: Path) -> None:
    config = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    run_cli("doctor", "--make-test-certificate", env=config)
    made = run_cli(*FAKE, "output.embed=[c2pa_sidecar]", "hydra.run.dir=run", env=config)
    assert made.code == 0, made.text
    row, data = row_and_file(tmp_path / "run")
    assert row["raw_sha256"] is None
    (sidecar,) = (tmp_path / "run/extras").glob("*.c2pa")
    found = c2pa.read(data, "image/png", sidecar.read_bytes())
    assert found is not None
    assert found["state"] == "Valid"


def test_both_forms_at_once_are_refused(run_cli: RunCli) -> None:
    done = run_cli(*FAKE, "output.embed=[c2pa,c2pa_sidecar]")
    assert done.code == 2
    assert "not both" in done.err
