"""A run as a data set for others: the formats that training and research tools read.

Everything is streamed in the plan's order, every image is checked against its recorded hash on the
way, and the same run exports to the same bytes. The run folder itself is not touched.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from runner.record.paths import RunPaths, temp_path
from runner.report.export.source import Source
from runner.settings.errors import PrerequisiteError, RequestError

Writer = Callable[[Source, Path], None]
Tracker = Callable[[Source, str], None]


@dataclass(frozen=True, slots=True)
class Format:
    """One thing that a run can be exported to.

    Attributes:
        writer: ``module:function`` in this package.
        what: For people, one line.
        needs: Module that is imported, and the extra that brings it.
        is_folder: It is a folder to make; otherwise it goes to the address of a store.
    """

    writer: str
    what: str
    needs: tuple[str, str] | None = None
    is_folder: bool = True


FORMATS: dict[str, Format] = {
    "imagefolder": Format("folders:imagefolder", "a folder of images with metadata.jsonl"),
    "webdataset": Format("shards:webdataset", "tar shards: image, prompt and row of each sample"),
    "parquet": Format(
        "tables:parquet", "parquet files with the images inside", ("pyarrow", "export")
    ),
    "huggingface": Format(
        "tables:huggingface", "a dataset repository for the Hub", ("pyarrow", "export")
    ),
    "croissant": Format(
        "tables:croissant", "parquet files described in Croissant 1.0", ("pyarrow", "export")
    ),
    "ro-crate": Format("folders:ro_crate", "a Process Run Crate (RO-Crate) for research archives"),
    "mlflow": Format(
        "tracking:mlflow", "one run in an MLflow store", ("mlflow", "mlflow"), is_folder=False
    ),
}
"""Name to what it is, as ``runner export --to`` takes it."""


def default_target(root: Path, name: str) -> str:
    """Where an export goes when nobody says: a folder of the run, or MLflow's own variable."""
    folder = root / "export" / name
    if FORMATS[name].is_folder:
        return str(folder)
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve()}/mlflow.db"


def export(root: Path, name: str, target: str) -> int:
    """Write one format. A folder appears under its name only when it is whole.

    Args:
        root: The run folder.
        name: A key of :data:`FORMATS`.
        target: Folder to make, which must not be there yet; for MLflow a tracking URI.

    Returns:
        How many images it holds.

    Raises:
        RequestError: The target is there already, the run has no images, or one of them is not as
            recorded.
        PrerequisiteError: A library is missing.
        OSError: The disk is full or gone.
    """
    chosen = FORMATS[name]
    source = Source(RunPaths(root))
    if not source.count:
        raise RequestError(f"{root}: no image to export")
    if chosen.needs is not None:
        module, extra = chosen.needs
        try:
            import_module(module)
        except ImportError:
            raise PrerequisiteError(
                f"export --to {name} needs {module}: pip install 'image-batch-runner[{extra}]'"
            ) from None
    file, _, function = chosen.writer.partition(":")
    write = getattr(import_module(f"{__name__}.{file}"), function)
    if chosen.is_folder:
        _write_folder(write, source, Path(target))
    else:
        tracker: Tracker = write
        tracker(source, target)
    return source.count


def _write_folder(write: Writer, source: Source, out: Path) -> None:
    if out.exists():
        raise RequestError(f"{out}: is there already; name another folder with --out")
    part = temp_path(out)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        write(source, part)
        part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
