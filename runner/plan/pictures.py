"""Input pictures that stand for many: a folder, a pattern, or the pictures of an earlier run."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Iterable
from pathlib import Path

from runner.settings.cell import Scalar
from runner.settings.errors import RequestError, listed

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".avif"})
_RUN = "run:"


def stands_for_many(value: object) -> bool:
    """Whether a value of ``pipeline.image`` and the like is more than one file."""
    if not isinstance(value, str) or "://" in value:
        return False
    return value.startswith(_RUN) or Path(value).is_dir() or _is_pattern(value)


def every_picture(values: Iterable[Scalar], key: str) -> tuple[Scalar, ...]:
    """The values with every folder, pattern and ``run:DIR`` replaced by its pictures, in order.

    Args:
        values: As the user wrote them.
        key: Where, for messages.

    Raises:
        RequestError: One of them holds no picture.
    """
    found: list[Scalar] = []
    for value in values:
        if isinstance(value, str) and stands_for_many(value):
            found += _pictures(value, key)
        else:
            found.append(value)
    return tuple(found)


def _pictures(text: str, key: str) -> list[str]:
    if text.startswith(_RUN):
        found = _of_run(Path(text.removeprefix(_RUN)), f"{key}={text}")
    elif Path(text).is_dir():
        found = [str(path) for path in Path(text).iterdir() if _is_picture(path)]
        found.sort(key=_as_counted)
    else:
        found = sorted(glob.glob(text, recursive=True), key=_as_counted)  # noqa: PTH207
        found = [path for path in found if _is_picture(Path(path))]
    if not found:
        kinds = listed(sorted(SUFFIXES))
        raise RequestError(f"{key}={text}: no picture there ({kinds} are looked for)")
    return found


def _of_run(folder: Path, where: str) -> list[str]:
    """Pictures of a run, in the order of its cells."""
    rows = folder / "images" / "metadata.jsonl"
    try:
        names = [json.loads(line)["file_name"] for line in rows.read_text("utf-8").splitlines()]
    except FileNotFoundError:
        raise RequestError(f"{where}: {folder} is no run folder (it has no {rows.name})") from None
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(f"{where}: {rows} cannot be read: {error}") from None
    return [str(rows.parent / name) for name in names]


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[") and not Path(text).exists()


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _as_counted(path: str) -> list[tuple[int, str]]:
    """Sorts ``2.png`` before ``10.png``."""
    return [
        (int(part), "") if part.isdigit() else (0, part.lower())
        for part in re.split(r"(\d+)", path)
    ]
