"""The config surface: every file composes, every mistake is one sentence and writes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from runner.cli.composer import group_options, make_hydra, parse_flags
from runner.cli.expand import expand
from runner.settings.confdir import conf_dir
from tests.conftest import RunCli

FILES = sorted(path.relative_to(conf_dir()) for path in conf_dir().rglob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_file_composes_and_begins_with_its_command(file: Path) -> None:
    text = (conf_dir() / file).read_text()
    header = [line for line in text.splitlines()[:2] if line.startswith("# python -m runner")]
    assert header, f"{file} does not begin with the command that uses it"
    override = (
        []
        if file.name == "config.yaml"
        else [f"{file.parts[0]}={Path(*file.parts[1:]).with_suffix('')}"]
    )
    assert not override or override[0] in header[0], f"{header[0]} does not choose {override[0]}"
    hydra = make_hydra(parse_flags([]))
    if "\nname: ???" in text:
        override.append("model.name=NAME")
    expanded = expand(hydra.config_loader, "config", override, multirun=False)
    assert expanded.variants
    assert yaml.safe_load(text) is not None


@pytest.mark.parametrize("chosen", [(), ("model=hub/any",), ("provider=diffusers",)], ids=str)
def test_a_model_that_is_named_alone_has_nothing_of_the_built_in_one(chosen: tuple[str]) -> None:
    hydra = make_hydra(parse_flags([]))
    named = [*chosen, "model.name=owner/model", "model.preset.steps=7"]
    model = expand(hydra.config_loader, "config", named, multirun=False).settings.model
    assert (model.name, model.preset) == ("owner/model", {"steps": 7})
    assert (model.components, model.traits) == ({}, {})
    kept = expand(
        hydra.config_loader, "config", ["model=builtin/shapes", "model.name=mine"], multirun=False
    ).settings.model
    assert kept.preset["size"] == "64x64"


def test_cfg_shows_what_a_named_model_gets(run_cli: RunCli) -> None:
    done = run_cli("model.name=owner/model", "--cfg", "job", "--package", "model")
    assert done.code == 0, done.text
    assert "owner/model" in done.out
    assert "64x64" not in done.out


def test_every_group_has_its_files() -> None:
    loader = make_hydra(parse_flags([])).config_loader
    listed = {
        (path.parts[0], str(Path(*path.parts[1:]).with_suffix("")))
        for path in FILES[1:]
        if len(path.parts) > 1
    }
    assert {("model", "builtin/shapes"), ("provider", "fake")} <= listed
    for group in {group for group, _ in listed}:
        assert {name for one, name in listed if one == group} <= {*group_options(loader, group)}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["provider=fak"], "provider=fak: no such choice; did you mean 'fake'?"),
        (["provder=fake"], "provder: unknown key; did you mean 'provider'?"),
        (["stpes=3"], "stpes: unknown key; did you mean 'steps'?"),
        (["steps=many"], "steps='many': input should be a valid integer"),
        (["model.name=${nope}"], "model.name: Interpolation key 'nope' not found"),
        (["n=0"], "n=0: input should be greater than or equal to 1 (set on the command line)"),
        (["unsupported=dropp"], "did you mean 'drop'?"),
        (["model=builtin/shape"], "did you mean 'builtin/shapes'?"),
        (["provider.options.latencys=1", "provider=fake"], "did you mean 'latency_s'?"),
        (["seed=1,2"], "seed=1,2: several values make a sweep; add -m"),
        (["seed=-1"], "seed=-1: input should be greater than or equal to 0"),
        (["device.name=tpu"], "device.name='tpu'"),
        (["prompts=nowhere.txt"], "nowhere.txt"),
        (["model.name=???"], "model.name"),
        (["+provider.regon=x"], "provider.regon: unknown key"),
        (["-m", "n=1,2"], "n is not an axis"),
        (["-m", "seed=1,x"], "seed"),
        (["provider.name=nobody"], "nobody"),
        (["style=${oc.env:NO_SUCH_VARIABLE}"], "NO_SUCH_VARIABLE"),
        (["bogus"], "bogus: no such command"),
        (["--config-dir", "missing"], "no such folder"),
    ],
)
def test_a_mistake_is_one_sentence_and_writes_nothing(
    run_cli: RunCli, tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    done = run_cli(*arguments)
    assert done.code == 2, done.text
    assert sentence in done.err
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.text
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "override",
    [
        "provider.api_key=sk-canary-0123456789",
        "+provider.token=canary-0123456789",
        "++model.password=canary-0123456789",
        "provider.extra_body.authorization=canary-0123456789",
        "prompt=Bearer canary-0123456789",
    ],
)
@pytest.mark.parametrize("flag", [(), ("-m",)])
def test_an_override_with_a_secret_is_refused_before_anything_is_written(
    run_cli: RunCli, tmp_path: Path, override: str, flag: tuple[str, ...]
) -> None:
    done = run_cli(*flag, "provider=fake", override)
    assert done.code == 2
    assert "environment variable" in done.err
    assert "canary" not in done.text
    assert list(tmp_path.iterdir()) == []


def test_all_mistakes_of_all_variants_are_told_at_once(run_cli: RunCli) -> None:
    done = run_cli("-m", "provider=fake,diffusers", "n=0", "limits.timeout_s=-1")
    assert done.code == 2
    assert "n=0" in done.err
    assert "limits.timeout_s" in done.err
    assert len(done.err.strip().splitlines()) == 2


def test_the_traceback_is_there_on_request(run_cli: RunCli) -> None:
    done = run_cli("n=0", env={"HYDRA_FULL_ERROR": "1"})
    assert "Traceback" in done.err


def test_help_is_written_for_people(run_cli: RunCli) -> None:
    done = run_cli("--help")
    assert done.code == 0
    commands = [line for line in done.out.splitlines() if line.startswith("  python -m runner")]
    assert len(commands) >= 5
    words = done.out.split()
    for word in ("provider", "fake", "model", "builtin/shapes", "openai/…(14)", "style", "photo"):
        assert word in words, word
    assert len(done.out.splitlines()) < 90


def test_help_lists_the_users_own_choices(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "mine/provider").mkdir(parents=True)
    (tmp_path / "mine/provider/ours.yaml").write_text("name: fake\n")
    done = run_cli("--help", "--config-dir", "mine")
    assert "ours" in done.out


def test_hydras_own_flags_work(run_cli: RunCli, tmp_path: Path) -> None:
    shown = run_cli("--cfg", "job", "provider=fake", "seed=7")
    assert shown.code == 0
    assert yaml.safe_load(shown.out)["seed"] == 7
    assert run_cli("--cfg", "job", "--package", "provider", "provider=fake").code == 0
    assert list(tmp_path.iterdir()) == []
