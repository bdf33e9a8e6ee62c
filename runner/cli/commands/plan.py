"""``runner plan <overrides>``: cells, calls, price range, time and warnings; sends nothing."""

from __future__ import annotations

from pathlib import Path

from hydra.types import RunMode
from omegaconf import OmegaConf
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.cli.batch import plan_of, price_range_text
from runner.cli.duration import Duration, durations, total
from runner.cli.hydra_app import read_command_line
from runner.record.reuse import outputs_root
from runner.settings.errors import PrerequisiteError

_SHOWN_AXIS = 60


def command(argv: list[str]) -> int:
    """Print the plan of a command line."""
    asked = read_command_line(argv)
    expanded = asked.expand()
    plan, providers = plan_of(expanded)
    summary = plan.summary(providers)
    sweep = asked.flags.multirun or expanded.hydra_config.hydra.mode is RunMode.MULTIRUN
    folder = OmegaConf.select(expanded.hydra_config, f"hydra.{'sweep' if sweep else 'run'}.dir")
    root = outputs_root(Path(str(folder)))
    configs = [composed.config for composed in expanded.variants]
    limits = expanded.settings.limits
    times = durations(plan, summary.variants, providers, configs, limits, root)
    console = Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=len(summary.variants) > 1)
    table.add_column("variant", "in all", overflow="fold")
    table.add_column("images", f"{summary.cells:,}", justify="right")
    table.add_column("calls", f"{summary.calls:,}", justify="right")
    table.add_column("price", price_range_text(summary.price), justify="right")
    table.add_column("time", _time_text(total(times, providers)), justify="right", no_wrap=True)
    table.add_column("not taken, dropped")
    for line, variant, time in zip(summary.variants, plan.variants, times, strict=True):
        table.add_row(
            escape(variant.name),
            f"{line.cells:,}",
            f"{line.calls:,}",
            price_range_text(line.price),
            _time_text(time),
            " ".join(line.dropped),
        )
    console.print(table)
    if any(times):
        console.print("time: as fast as the newest run that made such images", highlight=False)
    else:
        console.print(f"time: no run under {escape(str(root))} made such images", highlight=False)
    for key, values in expanded.axes.items():
        shown = ", ".join(str(value) for value in values[:5])
        shown = shown if len(shown) <= _SHOWN_AXIS else shown[: _SHOWN_AXIS - 1] + "…"
        more = f" … ({len(values):,} values)" if len(values) > 5 else ""
        console.print(f"axis {key}: {escape(shown)}{more}", highlight=False)
    if plan.spec.seed is not None:
        console.print("seed: drawn anew for every run; seed=… fixes it", highlight=False)
    for sentence in dict.fromkeys(text for one in providers for text in one.undecided()):
        console.print(sentence, highlight=False)
    warnings = [*summary.warnings, *(text for line in summary.variants for text in line.warnings)]
    for provider in providers:
        try:
            provider.check_ready()
        except PrerequisiteError as error:
            warnings.append(f"not ready: {error}")
    for warning in dict.fromkeys(warnings):
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False)
    return 0


def _time_text(time: Duration | None) -> str:
    return "unknown" if time is None else str(time)
