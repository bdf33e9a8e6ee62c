"""Hostile input: prompt files, folder names, overrides, configs. One sentence, nothing written."""

from __future__ import annotations

import json
import random
import resource
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.cli.batch import plan_of
from runner.cli.composer import CONFIG_NAME, compose, make_hydra, parse_flags, task_config
from runner.cli.expand import Composed, Expanded, without_axis_lists
from runner.cli.main import run
from runner.cli.overrides import quoted
from runner.plan import PromptFile
from runner.settings.errors import PrerequisiteError, RequestError
from runner.settings.load import read_settings
from runner.settings.secrets import refuse_secrets
from tests.cli.runs import manifest, rows
from tests.figures import Figures
from tests.servers.spoil import VALUES
from tests.torture.forge import Forge, forging

FAKE = ("provider=fake", "size=64x64", "seed=1")


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    with forging(tmp_path_factory.mktemp("forge")) as running:
        yield running


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tree(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def sentences(captured: pytest.CaptureFixture[str], code: int) -> list[str]:
    """What a refused command line said; each problem is one sentence."""
    out, err = captured.readouterr()
    assert "Traceback" not in out + err
    if code == 0:
        return []
    assert code in {2, 3}, (code, err)
    lines = [line for line in err.splitlines() if line]
    assert lines
    assert all(line.startswith("error: ") and 12 < len(line) < 3000 for line in lines), lines
    return lines


# ---------------------------------------------------------------- prompt files

GOOD_FILES = {
    "bom.txt": (b"\xef\xbb\xbfa fox\nan owl\n", ["a fox", "an owl"]),
    "crlf.txt": (b"a fox\r\n\r\nan owl\r\n", ["a fox", "an owl"]),
    "bom.csv": (b"\xef\xbb\xbfprompt\r\na fox\r\n", ["a fox"]),
    "bom.jsonl": (b'\xef\xbb\xbf{"prompt": "a fox"}\r\n', ["a fox"]),
    "long.txt": (b"x" * 1_000_000 + b"\nan owl\n", ["x" * 1_000_000, "an owl"]),
    "formula.csv": (b"prompt\n\"=cmd|' /C calc'!A0\"\n", ["=cmd|' /C calc'!A0"]),
    "separators.txt": ("a\u2028b\x0bc\x85d\n".encode(), ["a\u2028b\x0bc\x85d"]),
    "twice.txt": (b"a fox\na fox\n", ["a fox", "a fox"]),
}
BAD_FILES = {
    "nul.txt": (b"a fox\nan\0owl\n", "line 2"),
    "nul.csv": (b"prompt\na fox\nan\0owl\n", "line 3"),
    "surrogate.txt": (b"a fox\n\xed\xa0\x80\n", "line 2"),
    "surrogate.jsonl": (b'{"prompt": "a fox"}\n{"prompt": "\\ud800"}\n', "line 2"),
    "latin.txt": (b"a fox\n\xe4\n", "line 2"),
    "utf16.txt": ("a fox\n".encode("utf-16"), "line 1"),
    "cut.jsonl": (b'{"prompt": "a fox"}\n{"prompt": "an', "line 2"),
    "list.jsonl": (b'["a fox"]\n', "line 1"),
    "nan.jsonl": (b'{"prompt": "a", "guidance_scale": NaN}\n', "line 1"),
    "deep.jsonl": (b'{"prompt": "a", "x": ' + b"[" * 100_000 + b"\n", "line 1"),
    "short.csv": (b"prompt,seed\na fox\n", "line 2"),
    "quote.csv": (b'prompt\n"a fox\n', "line 2"),
    "empty.txt": (b"", "empty.txt"),
    "blank.txt": (b"\n\n \n", "blank.txt"),
    "seed.csv": (b"prompt,seed\na,1\nb,x\n", "line 3"),
    "huge.csv": (b"prompt,seed\na," + b"9" * 5000 + b"\n", "line 2"),
    "fox.docx": (b"PK\x03\x04", "fox.docx"),
    "bad.parquet": (b"PAR1 no", "bad.parquet"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD_FILES)
def test_odd_prompt_files_are_read(forge: Forge, tmp_path: Path, name: str) -> None:
    content, prompts = GOOD_FILES[name]
    (tmp_path / name).write_bytes(content)
    done = forge.run(*FAKE, f"prompts={tmp_path / name}", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.code == 0, done.out
    assert [row["prompt"] for row in rows(tmp_path / "run")] == prompts


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_prompt_files_are_a_sentence_with_the_line(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, figures: Figures
) -> None:
    content, said = BAD_FILES[name]
    (here / name).write_bytes(content)
    code = run([*FAKE, f"prompts={name}"])
    assert code == 2
    (line,) = sentences(capsys, code)
    assert said in line
    assert tree(here) == [str(here / name)]
    figures.add("hostile inputs")


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
def test_prompt_files_of_noise(tmp_path: Path, suffix: str, figures: Figures) -> None:
    pieces = st.sampled_from(
        [b"prompt", b"seed", b",", b'"', b"\n", b"\r\n", b"\0", b"\xef\xbb\xbf", b"{", b"}", b":",
         b'{"prompt": "a"}\n', b"prompt,seed\n", b"a,1\n", b"\xff", b"\\ud800", b"n",
         b"1e999", b" "]
    )  # fmt: skip
    file = tmp_path / f"noise{suffix}"

    @settings(
        max_examples=Figures.count(short=60, long=3000),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(pieces | st.binary(max_size=20), max_size=12).map(b"".join))
    def read(content: bytes) -> None:
        figures.add("fuzzed inputs")
        file.write_bytes(content)
        try:
            found = PromptFile.open(file)
            for index in range(len(found)):
                json.dumps(dict(found.row(index)), allow_nan=False).encode()
        except RequestError as error:
            assert all("\n" not in text and text for text in error.problems)

    read()


def test_a_million_rows_are_not_held_in_memory(here: Path, capsys: Any, figures: Figures) -> None:
    count = Figures.count(short=100_000, long=1_000_000)
    with (here / "many.csv").open("w") as file:
        file.write("prompt,seed\n")
        file.writelines(f"a picture of thing number {at},{at}\n" for at in range(count))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run(["plan", "provider=fake", "prompts=many.csv"]) == 0
    assert f"{count:,}" in capsys.readouterr().out
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80_000
    figures.add("rows of prompts", count)


# ---------------------------------------------------------------- names

FOLDERS = [
    "with space", "qu'ote", 'double"quote', "new\nline", "tab\tin", "-dash", "--flag", "$HOME",
    "a;b", "a&b|c", "back\\slash", "ünï-çødé-🦊", "x" * 200, "CON", "nul.txt", "per%cent", "a=b",
    "{brace}", "[list]", "*glob?", "~tilde", "#hash", "a,b", "(paren)", "co:lon", ".hidden",
]  # fmt: skip


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_of_any_name_works_and_is_named_so_that_a_shell_finds_it(
    forge: Forge, tmp_path: Path, name: str, figures: Figures
) -> None:
    root = tmp_path / name
    done = forge.run(
        *FAKE, "prompt=a star", "n=3", "provider.options.error_rate=1", "retry.max_attempts=1",
        f"hydra.run.dir={quoted(str(root))}",
    )  # fmt: skip
    assert done.code == 1, done.out
    assert "Traceback" not in done.out
    assert manifest(root)["counts"]["failed"] == 3
    told = done.out.partition("go on with: python -m runner ")[2]
    command, folder = shlex.split(told)[:2]
    assert (command, folder) == ("resume", str(root))
    verified = forge.run("verify", folder)
    assert verified.code == 0, verified.out
    figures.add("hostile inputs")


def test_files_are_named_by_ids_and_never_by_text(forge: Forge, tmp_path: Path) -> None:
    prompts = [
        "../../etc/passwd", "CON", "NUL.png", "a/b\\c", "🦊" * 90, "x" * 300, "Fox", "fox", "FOX",
        "\u202egnp.exe", "<script>alert(1)</script>", "com1", "-rf", "%00", "a\x07b",
    ]  # fmt: skip
    (tmp_path / "prompts.jsonl").write_text(
        "".join(f"{json.dumps({'prompt': at})}\n" for at in prompts)
    )
    run_dir = tmp_path / "run"
    done = forge.run(*FAKE, f"prompts={tmp_path / 'prompts.jsonl'}", f"hydra.run.dir={run_dir}")
    assert done.code == 0, done.out
    assert [row["prompt"] for row in rows(run_dir)] == prompts
    names = [str(path.relative_to(run_dir)) for path in run_dir.rglob("*")]
    assert len({name.casefold() for name in names}) == len(names)
    assert all(name.isascii() and len(name) < 100 for name in names)
    assert {path.name for path in tmp_path.iterdir()} == {"prompts.jsonl", "run"}


# ---------------------------------------------------------------- configs

TEXTS = [
    "", "null", "1", "-1", "1e999", "nan", "true", "[]", "{}", "[1,2", "{a:1}", "${x}", "${now:%Y}",
    "${oc.env:HOME}", "${oc.env:NO_SUCH_VARIABLE}", "'", '"', "a,b", "range(0,3)", "range(0,1e9)",
    "choice(1,2)", "glob(*)", "interval(0,1)", "../x", "/etc/passwd", "\\", "é", "💥", "x" * 500,
    "_target_", "os.system", "???", "a\udcff", "a=b", "=", "--", "@", "%", "\t", "0x10", "1_000",
    "2026-01-01",
]  # fmt: skip
KEYS = [
    "prompt", "prompts", "negative_prompt", "seed", "n", "size", "steps", "guidance_scale",
    "quality", "background", "output_format", "style", "style.prefix", "provider", "provider.name",
    "provider.base_url", "provider.api_key_env", "provider.options.latency_s",
    "provider.options.nothing", "provider.extra_body.x", "model", "model.name", "model.traits",
    "pipeline", "pipeline.name", "pipeline.image", "pipeline.strength", "device", "device.name",
    "device.batch_size", "engine", "limits", "limits.budget_usd", "limits.max_concurrency",
    "retry.max_attempts", "sweep", "sweep.axes.seed", "sweep.zip", "sweep.exclude", "sweep.cells",
    "unsupported", "reuse", "output.format", "output.quiet", "experiment", "nothing", "_target_",
    "hydra.run.dir", "hydra.sweep.dir", "hydra.job.chdir", "a.b.c", "", "+", "~seed", "++x",
    "hydra/launcher", "hydra/sweeper", "provider@x", "model@_global_.model",
]  # fmt: skip


def test_overrides_of_noise(
    here: Path, capsys: pytest.CaptureFixture[str], figures: Figures
) -> None:
    dice = random.Random(20261124)
    for _ in range(Figures.count(short=60, long=1500)):
        words = [
            dice.choice(["", "", "+", "++", "~"]) + dice.choice(KEYS)
            + dice.choice(["=", "=", "=", "", "=="]) + dice.choice(TEXTS)
            for _ in range(dice.randint(1, 3))
        ]  # fmt: skip
        multirun = ["-m"] if dice.random() < 0.3 else []
        code = run(["plan", *multirun, "provider=fake", *words])
        try:
            sentences(capsys, code)
        except AssertionError as error:
            raise AssertionError(f"{multirun} {words}: {error}") from error
        assert tree(here) == [], words
        figures.add("fuzzed configs")


def test_configs_of_noise(here: Path, monkeypatch: pytest.MonkeyPatch, figures: Figures) -> None:
    """Every composed config is damaged in memory: settings, provider and plan must take it."""
    loader = make_hydra(parse_flags([])).config_loader
    bases = [
        compose(loader, CONFIG_NAME, [f"provider={name}", "prompt=a"])
        for name in ("fake", "openai", "diffusers")
    ]
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key-0123456789abcdef")
    configs = [task_config(base) for base in bases]
    dice = random.Random(7)
    for _ in range(Figures.count(short=200, long=10_000)):
        at = dice.randrange(len(bases))
        config = json.loads(json.dumps(configs[at], default=str))
        for _ in range(dice.randint(1, 3)):
            _damage(config, dice)
        try:
            _plan_or_say(config, bases[at])
        except Exception as error:
            raise AssertionError(f"{_difference(config, configs[at])}: {error!r}") from error
        figures.add("fuzzed configs")
    assert tree(here) == []


@pytest.mark.parametrize("text", ["\ud800", "a\0b", "a" * 100_000])
@pytest.mark.parametrize("key", ["prompts", "pipeline.image", "pipeline.mask"])
def test_names_that_no_file_can_have(here: Path, key: str, text: str) -> None:
    assert _plan_with(key, text)


@pytest.mark.parametrize("key", ["prompt", "style.suffix", "provider.name", "sweep.axes"])
def test_half_a_character_is_no_text(here: Path, key: str) -> None:
    value = {"seed": ["\ud800"]} if key == "sweep.axes" else "a \ud800"
    (problem,) = _plan_with(key, value)
    assert problem.startswith(key)
    assert "half a character" in problem


def _plan_with(key: str, value: Any) -> tuple[str, ...]:
    """Plan the default config with another value at a place."""
    base = compose(make_hydra(parse_flags([])).config_loader, CONFIG_NAME, ["provider=fake"])
    config = json.loads(json.dumps(task_config(base), default=str))
    holder = config
    *way, last = key.split(".")
    for name in way:
        holder = holder[name]
    holder[last] = value
    return _plan_or_say(config, base)


def _plan_or_say(config: dict[str, Any], base: Any) -> tuple[str, ...]:
    """Plan a config; what is wrong with it must be said in sentences."""
    try:
        refuse_secrets(config)
        settings_ = read_settings(without_axis_lists(config))
        expanded = Expanded((Composed({}, settings_, config),), {}, {}, base)
        plan, providers = plan_of(expanded)
        plan.summary(providers)
        json.dumps(plan.to_json(), allow_nan=False)
    except (RequestError, PrerequisiteError) as error:
        problems: tuple[str, ...] = getattr(error, "problems", (str(error),))
        assert problems
        for text in problems:
            assert text
            assert "\n" not in text
            assert len(text) < 3000
        return problems
    return ()


def _damage(config: dict[str, Any], dice: random.Random) -> None:
    holder: Any = config
    while True:
        key = dice.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        inner = holder[key]
        if isinstance(inner, (dict, list)) and inner and dice.random() < 0.75:
            holder = inner
            continue
        match dice.randrange(5):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[dice.choice(["x", "", "_target_", "nämé", "a.b", "seed", "name"])] = inner
            case 2:
                holder[key] = {"x": inner}
            case 3:
                holder[key] = dice.choice(TEXTS)
            case _:
                holder[key] = json.loads(json.dumps(dice.choice(VALUES)))
        return


def _difference(config: Any, good: Any, path: str = "") -> list[str]:
    if isinstance(config, dict) and isinstance(good, dict):
        return [
            text for key in {*config, *good}
            for text in _difference(config.get(key, "(-)"), good.get(key, "(+)"), f"{path}.{key}")
        ]  # fmt: skip
    return [] if config == good else [f"{path}={config!r}"[:200]]
