"""``runner plan <overrides>``: cells, calls, price range and warnings; sends nothing."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.cli.batch import plan_of, price_range_text
from runner.cli.hydra_app import read_command_line
from runner.settings.errors import PrerequisiteError

_SHOWN_AXIS = 60


def command(argv: list[str]) -> int:
    """Print the plan of a command line."""
    expanded = read_command_line(argv).expand()
    plan, providers = plan_of(expanded)
    summary = plan.summary(providers)
    console = Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=len(summary.variants) > 1)
    table.add_column("variant", "in all", overflow="fold")
    table.add_column("images", f"{summary.cells:,}", justify="right")
    table.add_column("calls", f"{summary.calls:,}", justify="right")
    table.add_column("price", price_range_text(summary.price), justify="right")
    table.add_column("not taken, dropped")
    for line, variant in zip(summary.variants, plan.variants, strict=True):
        table.add_row(
            escape(variant.name),
            f"{line.cells:,}",
            f"{line.calls:,}",
            price_range_text(line.price),
            " ".join(line.dropped),
        )
    console.print(table)
    for key, values in expanded.axes.items():
        shown = ", ".join(str(value) for value in values[:5])
        shown = shown if len(shown) <= _SHOWN_AXIS else shown[: _SHOWN_AXIS - 1] + "…"
        more = f" … ({len(values):,} values)" if len(values) > 5 else ""
        console.print(f"axis {key}: {escape(shown)}{more}", highlight=False)
    if plan.spec.seed is not None:
        console.print("seed: drawn anew for every run; seed=… fixes it", highlight=False)
    warnings = [*summary.warnings, *(text for line in summary.variants for text in line.warnings)]
    for provider in providers:
        try:
            provider.check_ready()
        except PrerequisiteError as error:
            warnings.append(f"not ready: {error}")
    for warning in dict.fromkeys(warnings):
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False)
    return 0
