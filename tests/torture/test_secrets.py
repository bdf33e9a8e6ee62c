"""A canary for a key: it must be in nothing that a run leaves, says or shows."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from aiohttp import web

from runner.providers.net.keys import Secret
from runner.settings.secrets import RedactedStream, redact, redact_bytes
from tests.conftest import RunCli, cli_command
from tests.figures import Figures
from tests.servers.loopback import Seen, Situation
from tests.servers.openai import OpenAIServer

CANARY = 'canary/key+"0123"456789abcdef=='
FORMS = (
    CANARY,
    quote(CANARY, safe=""),
    json.dumps(CANARY)[1:-1],
    base64.b64encode(CANARY.encode()).decode(),
    CANARY[::-1],
)


class Parrot(OpenAIServer):
    """Repeats the key wherever an answer has room for text."""

    def __init__(self) -> None:
        super().__init__()
        self.key = CANARY

    async def answer(self, seen: Seen, situation: Situation) -> web.StreamResponse:
        response = await super().answer(seen, situation)
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        body = json.loads(response.body)
        if "error" in body:
            body["error"]["message"] = f"your key {CANARY} is as good as {quote(CANARY)}"
        else:
            body |= {"model": CANARY, "quality": f"key {CANARY}", "id": CANARY}
            body["usage"][CANARY] = CANARY
            for item in body["data"]:
                item["revised_prompt"] = f"a picture with {CANARY} on it"
        return web.json_response(
            body, status=response.status, headers={"x-request-id": quote(CANARY, safe="")}
        )


@pytest.fixture
def server() -> Iterator[Parrot]:
    with Parrot() as running:
        yield running


def no_canary(text: bytes, where: object) -> None:
    for form in FORMS:
        assert form.encode() not in text, f"the key is in {where}"


def watch_titles(child: subprocess.Popen[bytes], seen: list[bytes]) -> None:
    """What ``ps`` would show of a process, as long as it lives."""
    title = Path(f"/proc/{child.pid}/cmdline")
    while child.poll() is None:
        try:
            seen.append(title.read_bytes() + title.with_name("comm").read_bytes())
        except OSError:
            return
        threading.Event().wait(0.02)


def run_and_watch(folder: Path, *arguments: str, env: dict[str, str]) -> tuple[int, bytes]:
    child = subprocess.Popen(
        cli_command(*arguments),
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    seen: list[bytes] = []
    watcher = threading.Thread(target=watch_titles, args=(child, seen))
    watcher.start()
    out, _ = child.communicate(timeout=120)
    watcher.join()
    assert seen
    no_canary(b"".join(seen), "the process title")
    return child.returncode, out


def test_a_key_is_in_nothing_that_a_run_leaves(
    server: Parrot, tmp_path: Path, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    env = {
        **os.environ,
        "MY_OWN_VARIABLE": CANARY,
        "OPENAI_API_KEY": CANARY,
        "OPENAI_LOG": "debug",
        "HYDRA_FULL_ERROR": "1",
        "PYTHONASYNCIODEBUG": "1",
    }
    base = (
        "provider=openai", f"provider.base_url={server.base_url}",
        "provider.api_key_env=MY_OWN_VARIABLE", "n=2", "retry.max_attempts=1",
    )  # fmt: skip
    good, bad = (f"hydra.run.dir={tmp_path / name}" for name in ("good", "bad"))
    many = "prompt=[one,two,three,four,five]"
    commands: list[tuple[set[int], tuple[str, ...], list[Situation]]] = [
        ({0}, (*base, "prompt=a red lighthouse", good), []),
        ({1, 3}, (*base, many, bad), ["invalid", "refused", "html", "server_error", "auth"]),
        ({0, 1}, ("resume", "bad"), []),
        ({0}, ("verify", "good"), []),
        ({0}, ("report", "good"), []),
        ({0, 1}, ("rerun", "good"), []),
        ({0}, ("plan", *base, "prompt=a"), []),
        ({0}, (*base, "--cfg", "job"), []),
        ({0, 1}, ("doctor",), []),
    ]
    for codes, arguments, situations in commands:
        server.script(*situations)
        code, out = run_and_watch(tmp_path, *arguments, env=env)
        assert code in codes, out.decode()
        no_canary(out, f"what {arguments[0]} said")
        figures.add("canary searches")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        no_canary(path.read_bytes(), path)
        figures.add("canary searches")
    for run in ("good", "bad"):
        saved = json.loads((tmp_path / run / "manifest.json").read_text())
        assert saved["variants"][0]["config"]["provider"]["api_key_env"] == "MY_OWN_VARIABLE"
    assert b"***" in (tmp_path / "good/images/metadata.jsonl").read_bytes()


def test_a_key_that_is_typed_in_any_place_is_refused_before_it_is_written(
    run_cli: RunCli, tmp_path: Path
) -> None:
    env = {"OPENAI_API_KEY": "canary-key-0123456789abcdef"}
    for typed in ("prompt=a {}", "+provider.extra_body.user={}", "model.name={}", "output.x={}"):
        done = run_cli("provider=fake", typed.format(env["OPENAI_API_KEY"]), env=env)
        assert done.code == 2, done.text
        assert typed.partition("=")[0].lstrip("+") in done.err
        assert env["OPENAI_API_KEY"] not in done.text
    assert list(tmp_path.iterdir()) == []


def test_a_secret_shows_itself_nowhere(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    import sys

    secret = Secret(CANARY)
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r:>9}", f"{[secret]}"):
        assert text.strip(" []") == "***"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps({"key": secret})
    assert not hasattr(secret, "__dict__")
    stream = RedactedStream(sys.stderr)
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("a.client.of.somebody")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        logger.warning("sent with %s", CANARY)
        raise ValueError(CANARY)
    except ValueError:
        logger.exception("and failed")
    finally:
        logger.removeHandler(handler)
    stream.writelines([f"x{CANARY}x", quote(CANARY, safe="")])
    err = capsys.readouterr().err
    assert err.count("***") == 4
    no_canary(err.encode(), "the log")
    assert redact_bytes(json.dumps(CANARY).encode()) == b'"***"'


def test_words_are_no_secrets() -> None:
    for word in ("ollama", "none", "sk-1234", "12345678"):
        Secret(word)
        assert redact(f"a text about {word}") == f"a text about {word}"
