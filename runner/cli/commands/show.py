"""``runner show RUN_DIR``: a run in the terminal: totals, failures with what helps, extremes."""

from __future__ import annotations

import base64
import os
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from runner.cli.saved import run_folder, saved_places
from runner.record.derive import derive, read_failures
from runner.record.paths import RunPaths
from runner.record.rows import FailureRow
from runner.report import load
from runner.report.gallery import Gallery
from runner.report.text import seconds, shorten, usd

MOST_EXTREMES = 3
_CHUNK = 4096
"""Characters of base64 that one escape sequence of kitty's protocol may carry."""

_FIXES: dict[str, str] = {
    "rate_limit": "limits.requests_per_minute=… or fewer limits.max_concurrency, then resume",
    "transient": "resume; the provider had a fault",
    "auth": "see to the key or the credit of that account, then resume",
    "gone": "choose another model in a new run; `runner providers NAME` lists them",
    "invalid": "change what the message names in a new run; the same request fails again, and only "
    "`resume --include failed` sends it",
    "bad_image": "resume; the file that came was damaged",
    "no_image": "resume; the answer held no picture",
    "result_lost": "resume; the picture could not be fetched",
    "out_of_memory": "device.batch_size=1, a smaller size or an offload option, then resume",
}
_FIX_OF_OUTCOME: dict[str, str] = {
    "refused": "change the prompt in a new run; `resume --include refused` asks again",
    "unknown": "resume asks again and may pay again; look at the provider's bill first",
    "failed": "resume tries again",
}


def command(argv: list[str]) -> int:
    """Print the run; pictures too where the terminal can show them."""
    paths = run_folder(argv, "show")
    derive(paths, places=saved_places(paths))
    gallery = load(paths.root)
    console = Console(highlight=False)
    _head(console, paths.root, gallery)
    failures = list(read_failures(paths))
    if failures:
        _failures(console, paths.root, failures)
    _extremes(console, paths, gallery)
    _picture(console, paths.contact_sheet)
    return 0


def _head(console: Console, root: Path, gallery: Gallery) -> None:
    header = gallery.header
    facts = [f"{number:,} {word}" for number, word in header.counts]
    if header.missing:
        facts.append(f"{header.missing:,} {header.missing_word}")
    facts += [header.took, header.cost and f"cost {header.cost}", header.cost_note]
    console.print(f"[bold]Run {escape(header.run_id)}[/bold]  {header.status} · {header.when}")
    console.print(" · ".join(fact for fact in facts if fact))
    console.print(f"[dim]{escape(header.command)}[/dim]", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("provider", overflow="fold")
    for title in ("images", "failures", "p50", "p95", "an image", "cost"):
        table.add_column(title, justify="right")
    for line in header.providers:
        table.add_row(
            escape(line.label),
            f"{line.images:,}",
            f"{line.failures:,}",
            line.p50 or "–",
            line.p95 or "–",
            line.per_image or "–",
            f"{line.cost or '–'} [dim]{line.cost_note}[/dim]".strip(),
        )
    console.print(table)
    for warning in header.warnings:
        console.print(f"warning: {escape(warning)}", soft_wrap=True)


def _failures(console: Console, root: Path, failures: list[FailureRow]) -> None:
    """Grouped by cause, the most frequent first, each with what helps."""
    groups: dict[tuple[str, str, str], list[FailureRow]] = defaultdict(list)
    for row in failures:
        groups[row.outcome, row.kind, row.provider].append(row)
    console.print("[bold]Without an image[/bold]")
    for (outcome, kind, provider), rows in sorted(groups.items(), key=lambda one: -len(one[1])):
        words = kind.replace("_", " ")
        named = outcome if words == outcome else f"{outcome}: {words}"
        message, same = Counter(row.message for row in rows).most_common(1)[0]
        console.print(f"{len(rows):,} × {named}, {provider}", soft_wrap=True)
        if message:
            rest = f" (and {len(rows) - same:,} other messages)" if same < len(rows) else ""
            console.print(f"  [dim]{escape(shorten(message, 300))}{rest}[/dim]", soft_wrap=True)
        cells = ", ".join(str(row.index) for row in rows[:5])
        more = ", …" if len(rows) > 5 else ""
        console.print(f"  cells {cells}{more}")
        fix = _FIX_OF_OUTCOME[outcome] if outcome != "failed" else _FIXES.get(kind)
        console.print(f"  → {fix or _FIX_OF_OUTCOME['failed']}", soft_wrap=True)
    console.print(f"go on with: python -m runner resume {shlex.quote(str(root))}", soft_wrap=True)
    console.print()


def _extremes(console: Console, paths: RunPaths, gallery: Gallery) -> None:
    """The slowest and the dearest cells, where they differ at all."""
    for title, name, text in (("Slowest", "latency_s", seconds), ("Dearest", "cost_usd", usd)):
        found = [
            (value, entry)
            for entry in range(len(gallery))
            if gallery.get("status", entry) == "done"
            and isinstance(value := gallery.get(name, entry), (int, float))
        ]
        if len({value for value, _ in found}) < 2:
            continue
        console.print(f"[bold]{title}[/bold]")
        for value, entry in sorted(found, key=lambda one: -one[0])[:MOST_EXTREMES]:
            by = f"{gallery.text('provider', entry)} {gallery.text('model', entry)}"
            prompt = shorten(gallery.text("prompt", entry), 50)
            place = paths.images / gallery.text("file_name", entry)
            console.print(
                f"  {text(value):>10}  {escape(by)}  {escape(prompt)}\n"
                f"  {'':>10}  [dim]{escape(str(place))}[/dim]",
                soft_wrap=True,
            )
    console.print(f"look at {escape(str(paths.gallery))}", soft_wrap=True)


def _picture(console: Console, sheet: Path) -> None:
    """The contact sheet itself, by the terminal's own protocol."""
    if not console.is_terminal or not sheet.is_file():
        return
    for sequence in inline_image(sheet.read_bytes(), dict(os.environ)):
        sys.stdout.write(sequence)
    sys.stdout.flush()


def inline_image(data: bytes, environment: dict[str, str]) -> Iterator[str]:
    """Escape sequences that show a PNG file in this terminal; none where it cannot.

    Args:
        data: The file.
        environment: Tells which terminal it is.

    https://iterm2.com/documentation-images.html (iTerm2, WezTerm, VS Code);
    https://sw.kovidgoyal.net/kitty/graphics-protocol/ (kitty, Ghostty, Konsole).
    """
    encoded = base64.b64encode(data).decode()
    if environment.get("TERM_PROGRAM") in {"iTerm.app", "WezTerm", "vscode", "mintty"}:
        yield f"\x1b]1337;File=inline=1;size={len(data)};width=100%:{encoded}\a\n"
    elif (
        environment.get("KITTY_WINDOW_ID")
        or environment.get("TERM") in {"xterm-kitty", "xterm-ghostty"}
        or environment.get("TERM_PROGRAM") == "ghostty"
    ):
        for start in range(0, len(encoded), _CHUNK):
            more = int(start + _CHUNK < len(encoded))
            head = f"a=T,f=100,m={more}" if start == 0 else f"m={more}"
            yield f"\x1b_G{head};{encoded[start : start + _CHUNK]}\x1b\\"
        yield "\n"
