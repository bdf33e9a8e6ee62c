"""``runner show``: a run told in the terminal."""

from __future__ import annotations

import base64
import os
import pty
import select
import subprocess
from pathlib import Path

from runner.cli.commands.show import inline_image
from runner.report import write_contact_sheet
from tests.conftest import RunCli, cli_command
from tests.report_fixture import comparison


def test_a_comparison_is_told_with_causes_and_fixes(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli(
        "-m", "provider=fake", "prompt=a fox,a cat", "seed=range(0,8)",
        "provider.options.refusal_rate=0.5", "hydra.sweep.dir=run",
    )  # fmt: skip
    assert done.code == 1, done.text
    shown = run_cli("show", "run", env={"COLUMNS": "120"})
    assert shown.code == 0, shown.text
    assert "Run " in shown.out
    assert "fake" in shown.out
    assert "× refused" in shown.out
    assert "resume --include refused" in shown.out
    assert "python -m runner resume run" in shown.out
    assert "Slowest" in shown.out
    assert "\x1b" not in shown.out
    assert run_cli("show", "nowhere").code == 2


def test_the_picture_is_shown_where_the_terminal_can(run_cli: RunCli, tmp_path: Path) -> None:
    assert run_cli("provider=fake", "prompt=a fox", "hydra.run.dir=run").code == 0
    sheet = (tmp_path / "run/contact_sheet.png").read_bytes()
    encoded = base64.b64encode(sheet)
    for variables, shows in (({"TERM_PROGRAM": "iTerm.app"}, True), ({"TERM": "xterm"}, False)):
        ours, theirs = pty.openpty()
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("TERM", "KITTY"))}
        child = subprocess.Popen(
            cli_command("show", "run"),
            cwd=tmp_path,
            stdout=theirs,
            env={"TERM": "xterm", **plain, **variables},
        )
        os.close(theirs)
        said = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            said += piece
        os.close(ours)
        assert child.wait(60) == 0
        assert (encoded in said) is shows


def test_kittys_protocol_carries_the_whole_file(tmp_path: Path) -> None:
    root = comparison(tmp_path / "run", large=64)
    (first, *_) = write_contact_sheet(root)
    data = first.read_bytes()
    parts = list(inline_image(data, {"TERM": "xterm-kitty"}))
    bodies = [part.removeprefix("\x1b_G").removesuffix("\x1b\\") for part in parts[:-1]]
    heads = [body.partition(";")[0] for body in bodies]
    assert heads[0] == "a=T,f=100,m=1"
    assert heads[-1] == "m=0"
    assert base64.b64decode("".join(body.partition(";")[2] for body in bodies)) == data
    assert max(len(body) for body in bodies) < 4200
    assert list(inline_image(data, {"TERM": "xterm-256color"})) == []
