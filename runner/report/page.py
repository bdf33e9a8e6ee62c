"""The gallery page: one self-contained file that works from a disk, without a server."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from runner.report.gallery import Gallery
from runner.report.plots import Plot
from runner.report.table import Column, plain
from runner.report.text import shorten
from runner.report.thumbs import Thumbs
from runner.settings.cell import Json

MOST_WITHOUT_SCRIPT = 500
"""Pictures on the plain wall that a browser without scripts shows."""

_SCRIPTS = (
    "dom.js",
    "data.js",
    "state.js",
    "layout.js",
    "tile.js",
    "grid.js",
    "keys.js",
    "toolbar.js",
    "detail.js",
    "compare.js",
    "main.js",
)


@dataclass(frozen=True, slots=True)
class _Still:
    """A picture of the plain wall."""

    file: str
    small: str
    alt: str
    prompt: str
    caption: str
    problem: str
    width: int | None
    height: int | None


def render_page(
    gallery: Gallery, thumbs: Thumbs, links: tuple[str, ...] = (), plots: Sequence[Plot] = ()
) -> Iterator[bytes]:
    """The whole page.

    Args:
        gallery: What the run holds.
        thumbs: Which small pictures there are.
        links: Files of the run folder to link to.
        plots: Drawings to show.

    Yields:
        UTF-8 text. All of it is escaped: markup by Jinja2, data by :func:`json_block`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    style = _asset("page.css")
    # One module: the parts share a scope of their own and run in strict mode.
    script = "\n".join(_asset(f"js/{name}") for name in _SCRIPTS)
    environment = Environment(
        loader=PackageLoader("runner.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pieces = environment.get_template("page.html.j2").generate(
        header=gallery.header,
        prompt=_only_prompt(gallery),
        fixed=" · ".join(
            f"{key} {value}" for key, value in gallery.header.fixed if key != "prompt"
        ),
        style=Markup(style),
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        data=map(Markup, _data(gallery, thumbs)),
        stills=list(_stills(gallery, thumbs)),
        cells=len(gallery),
        hidden=gallery.hidden,
        links=links,
        plots=[Markup(plot.svg) for plot in plots],
        written=datetime.now(UTC).strftime("%H:%M:%S UTC"),
    )
    # Text from a provider may hold half a surrogate pair, which UTF-8 has no bytes for.
    return (piece.encode("utf-8", "replace") for piece in pieces)


def json_block(value: Json) -> str:
    """JSON that can stand inside ``<script type="application/json">``: no ``<`` in it."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _asset(name: str) -> str:
    folder = importlib.resources.files("runner.report") / "assets"
    return folder.joinpath(name).read_text("utf-8")


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(gallery: Gallery, thumbs: Thumbs) -> Iterator[str]:
    """What the script reads, as pieces of one JSON object: see ``assets/js/data.js``."""
    marks = Column()
    for entry in sorted(thumbs.small):
        marks.put(entry, True)
    problems = Column()
    for entry, problem in sorted(thumbs.problems.items()):
        problems.put(entry, problem)
    everyone = range(len(gallery))
    head: Json = {
        "count": len(gallery),
        "status": gallery.header.status,
        "missing": gallery.header.missing,
        "layout": {
            "rows": gallery.layout.rows,
            "columns": gallery.layout.columns,
            "group": gallery.layout.group,
        },
        "axes": [
            {
                "key": axis.key,
                "label": axis.label,
                "values": list(axis.values),
                "at": axis.at.tolist(),
            }
            for axis in gallery.axes
        ],
        "recipes": plain(gallery.recipes),
    }
    yield json_block(head).removesuffix("}")
    yield ',"columns":{"thumb":' + json_block(marks.packed(everyone))
    yield ',"problem":' + json_block(problems.packed(everyone))
    # One by one: of a large run they are most of the page.
    for name, column in gallery.table.columns.items():
        yield f",{json_block(name)}:{json_block(column.packed(gallery.order))}"
    yield "}}"


def _only_prompt(gallery: Gallery) -> str:
    """The prompt, if the whole run has just one."""
    column = gallery.table.columns.get("prompt")
    return str(column.values[0]) if column is not None and len(column.values) == 1 else ""


def _stills(gallery: Gallery, thumbs: Thumbs) -> Iterator[_Still]:
    for entry in range(min(len(gallery), MOST_WITHOUT_SCRIPT)):
        prompt = shorten(gallery.text("prompt", entry), 120)
        by = f"{gallery.text('provider', entry)} {gallery.text('model', entry)}"
        seed = gallery.get("seed", entry)
        caption = by if seed is None else f"{by}, seed {seed}"
        problem = thumbs.problems.get(entry, "")
        if gallery.get("status", entry) != "done":
            kind = gallery.text("kind", entry).replace("_", " ")
            problem = f"{gallery.text('status', entry)}: {kind}"
        file = "images/" + quote(gallery.text("file_name", entry))
        width, height = gallery.get("width", entry), gallery.get("height", entry)
        yield _Still(
            file=file,
            small=thumbs.small.get(entry, file),
            alt=f"{prompt} – {caption}",
            prompt=prompt,
            caption=caption,
            problem=problem,
            width=width if isinstance(width, int) else None,
            height=height if isinstance(height, int) else None,
        )
