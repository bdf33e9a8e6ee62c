"""``runner export`` as people type it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import RunCli


def test_export_a_run(run_cli: RunCli, tmp_path: Path) -> None:
    assert run_cli("provider=fake", "n=3", "hydra.run.dir=run").code == 0
    done = run_cli("export", "run", "--to", "webdataset")
    assert done.code == 0, done.text
    assert "12 images" in done.out
    assert (tmp_path / "run/export/webdataset/00000.tar").is_file()
    done = run_cli("export", "run", "--to=imagefolder", "--out", "mine")
    lines = (tmp_path / "mine/metadata.jsonl").read_text().splitlines()
    assert len(lines) == 3 * 4
    assert json.loads(lines[0])["provider"] == "fake"
    assert run_cli("verify", "run").code == 0


def test_mistakes_are_one_sentence(run_cli: RunCli) -> None:
    assert run_cli("provider=fake", "prompt=a", "hydra.run.dir=run").code == 0
    for arguments, said in (
        (("run",), "--to FORMAT is missing"),
        (("run", "--to", "webdatset"), "did you mean 'webdataset'"),
        (("run", "--too", "parquet"), "did you mean '--to'"),
        (("run", "--to"), "needs a value"),
        (("nowhere", "--to", "parquet"), "no run folder"),
        ((), "usage"),
    ):
        done = run_cli("export", *arguments)
        assert done.code == 2, arguments
        assert said in done.err
        assert len(done.err.strip().splitlines()) == 1
