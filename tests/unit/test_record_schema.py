"""The published schemas: fresh, and true of every file that is written."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from runner.record.derive import derive
from runner.record.facts import code_facts, machine_facts, package_versions
from runner.record.journal import encode
from runner.record.manifest import (
    Counts,
    Manifest,
    VariantRecord,
    plain_object,
    read_manifest,
    write_manifest,
)
from runner.record.paths import RunPaths
from runner.record.rows import NoteRecord
from runner.record.schema import FOLDER, render, schemas
from runner.record.store import RunStore
from runner.settings.errors import RequestError
from tests.unit.records import (
    NOW,
    PLAN,
    attempt,
    done,
    failed,
    files_of,
    image_row,
    picture,
    sent,
    with_store,
)


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((FOLDER / name).read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def manifest(**changes: Any) -> Manifest:
    members: dict[str, Any] = {
        "run_id": "2026-01-02/03-04-05",
        "command": ("python", "-m", "runner", "prompt=a fox"),
        "status": "incomplete",
        "started_at": NOW,
        "plan_hash": PLAN,
        "cells": 4,
        "counts": Counts(done=3, failed=1),
        "cost_usd": 0.75,
        "cost_basis": "price_book",
        "cost_unknown_worst_usd": 0.0,
        "variants": (
            VariantRecord(
                index=0,
                provider="fake",
                model="m",
                config=plain_object(
                    MappingProxyType({"provider": {"name": "fake", "list": (1, 2.5)}})
                ),
                model_identity={"commit": "abc", "files": {"a.safetensors": "ff"}},
                versions={"torch": "2"},
            ),
        ),
        "code": code_facts(),
        "machine": machine_facts(["NVIDIA L4 (driver 580)"]),
        "packages": package_versions(["pydantic", "no-such-distribution"]),
        "recipes": {"aabbccddeeff": {"dtype": "float32", "batch_size": 2}},
        "inputs": {"in.png": "0" * 64},
    }
    return Manifest(**{**members, **changes})


def test_the_published_files_are_fresh() -> None:
    published = {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert published == {name: render(schema) for name, schema in schemas().items()}, (
        "run: python -m runner.record.schema"
    )


def test_every_written_line_is_valid(tmp_path: Path) -> None:
    full = image_row(
        9,
        picture(9),
        negative_prompt="blur",
        seed=9,
        strength=0.5,
        image="in.png",
        params_effective={"seed": 9},
        params_dropped=("steps",),
        warnings=("cut",),
        marks=("c2pa",),
        recipe="aabbccddeeff",
    )

    async def work(store: RunStore) -> None:
        await store.sent(sent(1))
        await store.note(NoteRecord(call_id="call-1", at=NOW, fact={"job": 1}))
        both = attempt(9, outcome="partial", images=(full,), usage={"n": 1}, recipe={"dtype": "x"})
        for record in (done(1), failed(2, "refused"), failed(3, final=False), failed(3), both):
            await store.commit(record, files_of(record))
        await store.sent(sent(4, worst_usd=None))

    paths = with_store(tmp_path, work)
    derive(paths)
    for file, schema in (
        (paths.journal_files()[0], "journal_record.json"),
        (paths.metadata, "image_row.json"),
        (paths.failures, "failure_row.json"),
    ):
        lines = file.read_text().splitlines()
        assert len(lines) >= 2
        for line in lines:
            validator(schema).validate(json.loads(line))


def test_the_schemas_refuse_what_is_wrong() -> None:
    rows = validator("image_row.json")
    for wrong in ({}, {"file_name": "x"}):
        with pytest.raises(ValidationError):
            rows.validate(wrong)
    record = json.loads(encode(done(1)))
    journal = validator("journal_record.json")
    journal.validate(record)
    for change in ({"kind": "other"}, {"extra": 1}, {"cost_usd": "1"}, {"outcome": "fine"}):
        with pytest.raises(ValidationError):
            journal.validate({**record, **change})
    with pytest.raises(ValidationError):
        validator("manifest.json").validate({**manifest().model_dump(mode="json"), "status": "x"})


def test_every_member_is_described() -> None:
    for name in ("image_row.json", "failure_row.json"):
        members = json.loads((FOLDER / name).read_text())["properties"]
        assert all(member["description"] for member in members.values())


def test_a_manifest_comes_back_as_it_was_and_is_valid(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    for state in (manifest(status="running"), manifest(ended_at=NOW), manifest(cost_usd=None)):
        write_manifest(paths, state)
        assert read_manifest(paths) == state
        validator("manifest.json").validate(json.loads(paths.manifest.read_text()))


def test_facts_are_true_of_this_machine() -> None:
    machine = machine_facts()
    assert machine.python.startswith("3.")
    assert (machine.cores or 0) >= 1
    assert machine.devices == ()
    assert set(package_versions(["pydantic", "no-such-distribution"])) == {"pydantic"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not a run folder"),
        ("{", "is not a manifest of this runner: the file"),
        ('{"schema_version": 1}', "is not a manifest of this runner: run_id"),
        ('{"schema_version": 7, "new": 1}', "has schema version 7"),
    ],
)
def test_what_is_no_manifest_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    paths = RunPaths(tmp_path)
    if text is not None:
        paths.manifest.write_text(text)
    with pytest.raises(RequestError, match=message):
        read_manifest(paths)
