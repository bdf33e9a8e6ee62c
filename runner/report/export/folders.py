"""Plain folders: an ``imagefolder`` data set, and a research object crate."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from runner import __version__
from runner.record.journal import to_json
from runner.report.export.card import dataset_card
from runner.report.export.source import Source

_MIME_OF = {
    "manifest.json": "application/json",
    "plan.json": "application/json",
    "failures.jsonl": "application/jsonl",
    "images/metadata.jsonl": "application/jsonl",
}


def imagefolder(source: Source, out: Path) -> None:
    """Images beside ``metadata.jsonl``: what ``load_dataset("imagefolder")`` reads."""
    with (out / "metadata.jsonl").open("wb") as lines:
        for sample in source.samples():
            name = sample.key + sample.suffix
            (out / name).write_bytes(sample.data)
            text = to_json({"file_name": name, **sample.members}, ascii_only=False)
            lines.write(text.encode("utf-8", "replace") + b"\n")
    usage = """```python
import datasets

datasets.load_dataset("imagefolder", data_dir=".", split="train")[0]["image"]
```
"""
    (out / "README.md").write_text(dataset_card(source, usage=usage), encoding="utf-8")


def ro_crate(source: Source, out: Path) -> None:
    """The run's record and images with ``ro-crate-metadata.json``: one action made them all.

    RO-Crate 1.1 with the profile Process Run Crate 0.5
    (https://www.researchobject.org/workflow-run-crate/profiles/process_run_crate/).
    """
    root, manifest = source.paths.root, source.manifest
    for name in _MIME_OF:
        if (root / name).is_file():
            (out / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(root / name, out / name)
    pictures: list[dict[str, Any]] = []
    for sample in source.samples():
        name = f"images/{sample.row.file_name}"
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(sample.data)
        pictures.append(
            {
                "@id": name,
                "@type": ["File", "ImageObject"],
                "name": sample.row.prompt[:120],
                "encodingFormat": sample.row.mime,
                "contentSize": sample.row.bytes,
                "sha256": sample.row.sha256,
                "dateCreated": sample.row.started_at,
            }
        )
    records: list[dict[str, Any]] = [
        {
            "@id": name,
            "@type": "File",
            "name": Path(name).name,
            "encodingFormat": mime,
            "contentSize": (out / name).stat().st_size,
        }
        for name, mime in _MIME_OF.items()
        if (out / name).is_file()
    ]
    ids = [{"@id": part["@id"]} for part in (*records, *pictures)]
    models = ", ".join(f"{provider} {model}" for provider, model in sorted(source.by_model))
    graph = [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"Images of run {manifest.run_id}",
            "description": f"{source.count} generated images ({models}), and their record.",
            "datePublished": manifest.ended_at or manifest.started_at,
            "license": "The terms of each provider; see manifest.json for who made what.",
            "conformsTo": {"@id": "https://w3id.org/ro/wfrun/process/0.5"},
            "hasPart": ids,
            "mentions": {"@id": "#run"},
        },
        {
            "@id": "https://w3id.org/ro/wfrun/process/0.5",
            "@type": "CreativeWork",
            "name": "Process Run Crate",
            "version": "0.5",
        },
        {
            "@id": "#run",
            "@type": "CreateAction",
            "name": shlex.join(["python", "-m", "runner", *manifest.command]),
            "instrument": {"@id": "#runner"},
            "object": [{"@id": "plan.json"}],
            "result": [{"@id": picture["@id"]} for picture in pictures],
            "startTime": manifest.started_at,
            **({"endTime": manifest.ended_at} if manifest.ended_at else {}),
            "actionStatus": _status(source),
        },
        {
            "@id": "#runner",
            "@type": "SoftwareApplication",
            "name": "image-batch-runner",
            "softwareVersion": manifest.code.version,
            **({"identifier": manifest.code.commit} if manifest.code.commit else {}),
        },
        *records,
        *pictures,
    ]
    crate = {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}
    text = json.dumps(crate, indent=1, ensure_ascii=False).encode("utf-8", "replace")
    (out / "ro-crate-metadata.json").write_bytes(text + b"\n")
    (out / "README.md").write_text(
        f"A run of image-batch-runner {manifest.code.version} as an RO-Crate, exported by "
        f"{__version__}.\n",
        encoding="utf-8",
    )


def _status(source: Source) -> dict[str, str]:
    done = source.manifest.status == "done"
    kind = "CompletedActionStatus" if done else "FailedActionStatus"
    return {"@id": f"http://schema.org/{kind}"}
