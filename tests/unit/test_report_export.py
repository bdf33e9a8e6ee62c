"""Exports, read back by the library that each format is for."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runner.record.derive import read_rows
from runner.record.paths import RunPaths
from runner.report.export import FORMATS, default_target, export, shards, tables
from runner.settings.errors import RequestError
from tests.report_fixture import HOSTILE, RunFolder, encode, picture


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Twelve pictures whose prompts are as bad as prompts get, and one failure."""
    folder = RunFolder(tmp_path / "run")
    for number, prompt in enumerate(HOSTILE):
        folder.add_image(
            encode(picture("p", number, (32, 24))),
            axes={"prompt": prompt, "seed": number},
            prompt=prompt,
            seed=number,
            size=(32, 24),
            params_dropped=("steps",),
        )
    folder.add_failure(axes={"seed": 99}, message="Too many requests.")
    return folder.write()


def exported(run: Path, name: str) -> Path:
    """The folder of an export, whose images are all there."""
    target = default_target(run, name)
    assert export(run, name, target) == len(HOSTILE)
    return Path(target)


def hashes(run: Path) -> list[str]:
    return [row.sha256 for row in read_rows(RunPaths(run))]


def pixels(run: Path) -> list[bytes]:
    paths = RunPaths(run)
    return [Image.open(paths.image(row.file_name)).tobytes() for row in read_rows(paths)]


def test_imagefolder_is_read_by_datasets(run: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out = exported(run, "imagefolder")
    found = datasets.load_dataset("imagefolder", data_dir=str(out), split="train")
    assert [image.convert("RGB").tobytes() for image in found["image"]] == pixels(run)
    assert found["seed"] == list(range(len(HOSTILE)))
    assert found["prompt"][0] == HOSTILE[0]


def test_webdataset_is_read_by_webdataset(run: Path, monkeypatch: Any) -> None:
    webdataset = pytest.importorskip("webdataset")
    monkeypatch.setattr(shards, "SAMPLES_PER_SHARD", 5)
    out = exported(run, "webdataset")
    found = sorted(str(path) for path in out.glob("*.tar"))
    assert [Path(path).name for path in found] == ["00000.tar", "00001.tar", "00002.tar"]
    samples = list(webdataset.WebDataset(found, shardshuffle=False))
    assert [hashlib.sha256(sample["png"]).hexdigest() for sample in samples] == hashes(run)
    assert [json.loads(sample["json"])["seed"] for sample in samples] == list(range(len(HOSTILE)))
    assert samples[1]["txt"].decode() == HOSTILE[1]
    assert len({sample["__key__"] for sample in samples}) == len(HOSTILE)


def test_parquet_is_read_by_pyarrow_and_datasets(run: Path, monkeypatch: Any) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(tables, "IMAGES_PER_FILE", 7)
    monkeypatch.setattr(tables, "IMAGES_PER_GROUP", 3)
    out = exported(run, "parquet")
    files = sorted(out.glob("*.parquet"))
    assert [path.name for path in files] == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    rows = [row for path in files for row in parquet.read_table(path).to_pylist()]
    assert [hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in rows] == hashes(run)
    assert rows[0]["params_dropped"] == ["steps"]
    assert rows[0]["cost_usd"] == 0.0
    found = datasets.load_dataset("parquet", data_files=str(out / "*.parquet"), split="train")
    assert found[3]["image"].size == (32, 24)


def test_a_hub_repository_is_read_by_its_card(run: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out = exported(run, "huggingface")
    found = datasets.load_dataset(str(out), split="train")
    assert len(found) == len(HOSTILE)
    assert found[0]["image"].size == (32, 24)
    card = (out / "README.md").read_text()
    assert "python -m runner -m 'seed=range(0,4)'" in card
    assert "1 planned cell has no image" in card


def test_croissant_is_read_by_mlcroissant(run: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    out = exported(run, "croissant")
    dataset = mlcroissant.Dataset(jsonld=str(out / "croissant.json"))
    assert not dataset.metadata.issues.errors
    records = list(dataset.records("default"))
    assert len(records) == len(HOSTILE)
    first = records[0]
    assert first["default/prompt"] in (HOSTILE[0], HOSTILE[0].encode())
    image = first["default/image"]
    shown = image if isinstance(image, Image.Image) else Image.open(io.BytesIO(image))
    assert shown.convert("RGB").tobytes() == pixels(run)[0]


def test_ro_crate_is_read_by_rocrate(run: Path) -> None:
    rocrate = pytest.importorskip("rocrate.rocrate")
    out = exported(run, "ro-crate")
    crate = rocrate.ROCrate(out)
    action = crate.get("#run")
    assert action["startTime"] == "2026-11-01T14:03:21.250+00:00"
    assert len(action["result"]) == len(HOSTILE)
    for part in crate.root_dataset["hasPart"]:
        assert (out / part.id).is_file()
    found = [hashlib.sha256((out / part.id).read_bytes()).hexdigest() for part in action["result"]]
    assert found == hashes(run)


def test_mlflow_store_is_read_by_mlflow(run: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    target = default_target(run, "mlflow")
    assert export(run, "mlflow", target) == len(HOSTILE)
    client = mlflow.MlflowClient(tracking_uri=target)
    experiment = client.get_experiment_by_name("image-batch-runner")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.data.metrics["done"] == len(HOSTILE)
    assert logged.data.metrics["failed"] == 1
    assert logged.data.params["models"] == "diffusers builtin"
    table = json.loads(
        Path(client.download_artifacts(logged.info.run_id, "cells.json")).read_text()
    )
    assert len(table["data"]) == len(HOSTILE)
    with pytest.raises(RequestError, match="already"):
        export(run, "mlflow", target)


@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if one.is_folder])
def test_the_same_run_exports_to_the_same_bytes(run: Path, tmp_path: Path, name: str) -> None:
    trees = []
    for number in range(2):
        out = tmp_path / f"out{number}"
        export(run, name, str(out))
        files = sorted(path for path in out.rglob("*") if path.is_file())
        trees.append({path.relative_to(out): path.read_bytes() for path in files})
    assert trees[0] == trees[1]
    assert len(trees[0]) >= 2


def test_a_changed_image_is_named_and_nothing_is_left(run: Path) -> None:
    row = list(read_rows(RunPaths(run)))[5]
    path = RunPaths(run).image(row.file_name)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RequestError, match=path.name):
        export(run, "webdataset", default_target(run, "webdataset"))
    assert list((run / "export").iterdir()) == []


def test_an_export_that_is_there_is_left_alone(run: Path) -> None:
    out = exported(run, "imagefolder")
    with pytest.raises(RequestError, match="--out"):
        export(run, "imagefolder", str(out))
