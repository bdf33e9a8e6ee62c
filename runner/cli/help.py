"""``--help``, for people: what it does, commands to copy, groups and their choices."""

from __future__ import annotations

from pathlib import Path

from runner.cli.main import COMMANDS
from runner.settings.confdir import conf_dir

_TEXT = """\
Make images in batches: one declarative config, any provider or local diffusers
pipelines, and for every picture a record of exactly how it was made.

Copy and try:
  python -m runner
      the built-in model: no key, no network, pictures in seconds
  python -m runner prompt="a large green heart on a white background" seed=7 n=4
      four images from seed 7 on
  python -m runner -m prompt="a red star","a blue star" seed='range(0,4)' guidance_scale=1,3,5
      a sweep: every combination, one run folder, one page with axes
  python -m runner plan -m provider=diffusers,fake seed=1,2 unsupported=drop
      what that would make and cost; sends nothing
  python -m runner resume outputs/2026-11-21/09-30-00
      go on after a crash, Ctrl-C or a failure; nothing done is made again

Usage:
  python -m runner [key=value …]             one batch
  python -m runner -m key=a,b [key=value …]  a sweep over several values
  python -m runner COMMAND …

Commands:
{commands}

Choices (group=choice); files of your own: --config-dir FOLDER; all models of a
provider with prices: python -m runner providers NAME
{groups}

Keys (key=value):
  prompt prompts negative_prompt seed n size steps guidance_scale quality style
  background output_format · pipeline.image|mask|strength · model.name|revision
  provider.base_url|api_key_env|options.*|extra_body.* · device.batch_size|dtype|threads
  limits.budget_usd|max_concurrency|requests_per_minute|timeout_s · retry.max_attempts
  sweep.axes.<key>|zip|exclude|cells · unsupported=error|warn|drop · output.format|quiet
  hydra.run.dir=FOLDER: the same command again makes only what is missing

Hydra's own flags work too: --cfg job, --config-dir, -cn, -m, --info, tab completion;
--hydra-help lists them. Exit codes: 0 done, 1 some failed, 2 bad request, 3 something
is missing, 130 interrupted."""


def help_text(argv: list[str]) -> str:
    """The help; choices come from our config tree and from ``--config-dir``."""
    roots = [conf_dir()]
    for flag in ("--config-dir", "-cd"):
        if flag in argv[:-1]:
            roots.append(Path(argv[argv.index(flag) + 1]))
    commands = "\n".join(f"  {name:<10} {what}" for name, (_, what) in COMMANDS.items())
    groups: dict[str, list[str]] = {}
    for root in roots:
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            names = [
                str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.yaml")
            ]
            groups[folder.name] = sorted({*groups.get(folder.name, []), *names})
    return _TEXT.format(
        commands=commands,
        groups="\n".join(_wrapped(name, choices) for name, choices in groups.items()),
    )


_MOST_OF_A_FAMILY = 4
"""Models of one family that are listed by name; `providers NAME` lists them all."""


def _by_family(choices: list[str]) -> list[str]:
    families: dict[str, list[str]] = {}
    for choice in choices:
        family, _, name = choice.rpartition("/")
        families.setdefault(family if name else choice, []).append(choice)
    shown: list[str] = []
    for family, names in families.items():
        whole = len(names) <= _MOST_OF_A_FAMILY or not family
        shown += names if whole else [f"{family}/…({len(names)})"]
    return shown


def _wrapped(name: str, choices: list[str]) -> str:
    choices = _by_family(choices)
    lines, line = [], f"  {name:<11}"
    for choice in choices:
        if len(line) + len(choice) > 84:
            lines.append(line)
            line = " " * 13
        line += f" {choice}"
    return "\n".join([*lines, line])
