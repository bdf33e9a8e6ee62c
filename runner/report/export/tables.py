"""Parquet files with the images inside, and the descriptions that data set hubs read."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.report.export.card import dataset_card
from runner.report.export.source import ColumnType, Sample, Source, columns
from runner.settings.cell import Json

IMAGES_PER_FILE = 2000
IMAGES_PER_GROUP = 100
"""A row group is what a reader loads at once: some 150 MB of large pictures."""

_ARROW = {"string": "string", "integer": "int64", "number": "float64"}
_CROISSANT = {"string": "sc:Text", "strings": "sc:Text", "integer": "sc:Integer"}


def parquet(source: Source, out: Path) -> None:
    """``train-00000-of-00002.parquet`` …; ``datasets`` decodes the column ``image`` by itself."""
    _write(source, out)
    usage = """```python
import datasets

datasets.load_dataset("parquet", data_files="train-*.parquet", split="train")[0]["image"]
```
"""
    (out / "README.md").write_text(dataset_card(source, usage=usage), encoding="utf-8")


def huggingface(source: Source, out: Path) -> None:
    """A dataset repository: ``data/*.parquet`` and a card; ``hf upload`` sends it as it is."""
    (out / "data").mkdir()
    _write(source, out / "data")
    head = "configs:\n  - config_name: default\n    data_files: data/train-*.parquet"
    usage = """```python
import datasets

datasets.load_dataset(".", split="train")[0]["image"]
```

```
hf upload --repo-type dataset USER/NAME .
```
"""
    (out / "README.md").write_text(dataset_card(source, head, usage), encoding="utf-8")


def croissant(source: Source, out: Path) -> None:
    """Parquet files and ``croissant.json``, as research venues ask for it."""
    files = _write(source, out)
    described = json.dumps(_described(source, files), indent=2, ensure_ascii=False)
    (out / "croissant.json").write_text(described + "\n", encoding="utf-8")
    usage = """```python
import mlcroissant

next(iter(mlcroissant.Dataset("croissant.json").records("default")))
```
"""
    (out / "README.md").write_text(dataset_card(source, usage=usage), encoding="utf-8")


def _write(source: Source, out: Path) -> list[Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = columns()
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    fields = [pa.field(column.name, _arrow(pa, column)) for column in found]
    features = {"image": {"_type": "Image"}, **{c.name: _feature(c) for c in found}}
    # What `datasets` looks for to decode the images; other readers pass it over.
    hint = json.dumps({"info": {"features": features}})
    schema = pa.schema([pa.field("image", image), *fields], metadata={"huggingface": hint})
    total = -(-source.count // IMAGES_PER_FILE)
    samples, files = source.samples(), []
    for number in range(total):
        path = out / f"train-{number:05d}-of-{total:05d}.parquet"
        with pq.ParquetWriter(path, schema) as writer:
            for rows in _groups(samples, IMAGES_PER_FILE):
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        files.append(path)
    return files


def _groups(samples: Iterator[Sample], most: int) -> Iterator[list[dict[str, Any]]]:
    chunk = itertools.islice(samples, most)
    while group := list(itertools.islice(chunk, IMAGES_PER_GROUP)):
        yield [
            {
                "image": {"bytes": sample.data, "path": sample.key + sample.suffix},
                **{name: _clean(value) for name, value in sample.members.items()},
            }
            for sample in group
        ]


def _clean(value: Json) -> Json:
    """Half a surrogate pair, which some providers send, is not UTF-8."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _arrow(pa: Any, column: ColumnType) -> Any:
    return pa.list_(pa.string()) if column.kind == "strings" else _ARROW[column.kind]


def _feature(column: ColumnType) -> Any:
    if column.kind == "strings":
        return {"_type": "List", "feature": {"_type": "Value", "dtype": "string"}}
    return {"_type": "Value", "dtype": _ARROW[column.kind]}


def _described(source: Source, files: list[Path]) -> dict[str, Any]:
    """Croissant 1.0 (https://docs.mlcommons.org/croissant/docs/croissant-spec.html)."""
    distribution: list[dict[str, Any]] = [
        {
            "@type": "cr:FileObject",
            "@id": path.name,
            "name": path.name,
            "contentUrl": path.name,
            "encodingFormat": "application/x-parquet",
            "sha256": _sha256(path),
        }
        for path in files
    ]
    ids = [{"@id": path.name} for path in files]
    file_set = {
        "@type": "cr:FileSet",
        "@id": "parquet-files",
        "name": "parquet-files",
        "containedIn": ids if len(ids) > 1 else ids[0],
        "encodingFormat": "application/x-parquet",
        "includes": "*.parquet",
    }
    place: dict[str, Any] = {"fileSet": {"@id": "parquet-files"}}
    if len(files) == 1:
        place = {"fileObject": ids[0]}
    else:
        distribution.append(file_set)
    image = {
        "@type": "cr:Field",
        "@id": "default/image",
        "name": "image",
        "description": "The picture, the provider's own bytes.",
        "dataType": "sc:ImageObject",
        "source": {**place, "extract": {"column": "image"}, "transform": {"jsonPath": "bytes"}},
    }
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"default/{column.name}",
            "name": column.name,
            "description": column.description,
            "dataType": _CROISSANT.get(column.kind, "sc:Float"),
            **({"repeated": True} if column.kind == "strings" else {}),
            "source": {**place, "extract": {"column": column.name}},
        }
        for column in columns()
    ]
    manifest = source.manifest
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": f"run-{manifest.run_id}",
        "description": f"{source.count} generated images with a record of how each was made.",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "datePublished": (manifest.ended_at or manifest.started_at)[:10],
        "version": "1.0.0",
        "distribution": distribution,
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "default",
                "name": "default",
                "description": "One record per image.",
                "field": [image, *fields],
            }
        ],
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataBiases": "cr:dataBiases",
    "dataCollection": "cr:dataCollection",
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "personalSensitiveInformation": "cr:personalSensitiveInformation",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
