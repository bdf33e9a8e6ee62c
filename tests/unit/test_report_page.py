"""The page as a file: nothing that a prompt or a provider says can become markup or code."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.record.derive import flat
from runner.report import write_page, write_report
from runner.report.page import MOST_WITHOUT_SCRIPT, json_block
from tests.report_fixture import HOSTILE, RunFolder, comparison, encode, picture, single_wall


class Reader(HTMLParser):
    """Tags with their attributes, and the text of styles and scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, list[str]] = {"style": [], "script": []}
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in self.raw:
            self._inside = tag
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside][-1] += data


def read(root: Path) -> tuple[str, Reader, dict[str, Any]]:
    page = (root / "index.html").read_bytes().decode("utf-8")
    reader = Reader(page)
    return page, reader, json.loads(reader.raw["script"][0])


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "hostile"
    run = RunFolder(root)
    data = encode(picture("p", 1, (8, 8)))
    for text in HOSTILE:
        run.add_image(
            data,
            axes={"prompt": text, text[:40]: text},
            prompt=text,
            revised_prompt=text,
            model=text,
            request_id=text,
            warnings=(text,),
            params_sent={text: text},
            mime=text,
        )
        run.add_failure(axes={"prompt": text}, prompt=text, message=text, kind=text, code=text)
    run.write(run_id=HOSTILE[0], command=HOSTILE[:7], warnings=[HOSTILE[2]])
    write_report(root)
    return root


def test_hostile_text_adds_no_element_and_no_attribute(hostile: Path, tmp_path: Path) -> None:
    _, tame, _ = read_written(single_wall(tmp_path / "tame"))
    _, reader, _ = read(hostile)
    assert {tag for tag, _ in reader.tags} <= {tag for tag, _ in tame.tags} | {"tr", "p", "div"}
    assert len(reader.raw["script"]) == 2
    assert len(reader.raw["style"]) == 1
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert attributes.get("href") is None or "javascript:" not in str(attributes["href"])


def read_written(root: Path) -> tuple[str, Reader, dict[str, Any]]:
    write_page(root)
    return read(root)


def test_hostile_text_comes_through_whole(hostile: Path) -> None:
    _, _, data = read(hostile)
    # The record's own files cannot hold half a surrogate pair; everything else is as it was.
    written = [text.encode("utf-8", "replace").decode() for text in HOSTILE]
    for name in ("prompt", "revised_prompt", "model", "message"):
        assert set(written) <= set(data["columns"][name]["v"]), name
    (prompt,) = [axis for axis in data["axes"] if axis["key"] == "prompt"]
    assert prompt["values"] == written


def test_the_policy_allows_exactly_what_is_there(hostile: Path) -> None:
    page, reader, _ = read(hostile)
    policy = next(
        str(attributes["content"])
        for tag, attributes in reader.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    style, code = reader.raw["style"][0], reader.raw["script"][1]

    def hashed(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == hashed(code)
    assert rules["style-src"] == hashed(style)
    assert rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in policy
    # A hash does not cover style attributes: there must be none.
    assert not [tag for tag, attributes in reader.tags if "style" in attributes]
    assert page.index("Content-Security-Policy") < page.index("<style")


def test_nothing_is_loaded_from_elsewhere(hostile: Path) -> None:
    _, reader, _ = read(hostile)
    for tag, attributes in reader.tags:
        for name in ("src", "href"):
            address = attributes.get(name) or ""
            assert not re.match(r"(?i)(https?:)?//", address), (tag, address)
    code = reader.raw["script"][1]
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval)\b", code)
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import)\s*\(", code)


@given(st.text(st.characters(codec=None)) | st.lists(st.text()))
def test_a_data_block_cannot_end_its_script(value: Any) -> None:
    block = json_block(value)
    assert "<" not in block
    assert block.isascii()
    assert json.loads(block) == value


def test_seeds_beyond_the_numbers_of_a_browser_are_kept_as_text(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    seed = 2**63 - 1
    run.add_image(encode(picture("p", 1, (8, 8))), axes={"seed": seed}, seed=seed)
    run.write()
    _, _, data = read_written(tmp_path)
    assert data["columns"]["seed"]["v"] == [str(seed)]


def test_a_number_that_json_lacks_does_not_break_the_page(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    row = run.add_image(encode(picture("p", 1, (8, 8))), axes={})
    run.write()
    line = json.dumps(flat(dataclasses.replace(row, guidance_scale=float("nan"))))
    assert "NaN" in line
    (tmp_path / "images" / "metadata.jsonl").write_text(line + "\n")
    _, _, data = read_written(tmp_path)
    assert data["columns"]["guidance_scale"]["v"] == ["nan"]


def test_a_file_name_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "run"
    run = RunFolder(root)
    row = run.add_image(encode(picture("p", 1, (800, 600))), axes={}, size=(800, 600))
    run.images[0] = dataclasses.replace(row, file_name="../../outside.png")
    (tmp_path / "outside.png").write_bytes(encode(picture("p", 1, (800, 600))))
    run.write()
    write_report(root)
    _, reader, data = read(root)
    assert data["columns"]["problem"]["v"] == ["The name in its row is not one of this folder."]
    assert not list(root.glob("thumbs/*"))
    assert not [tag for tag, _ in reader.tags if tag == "img"]


def test_without_scripts_there_is_a_plain_wall(tmp_path: Path) -> None:
    root = comparison(tmp_path / "run", large=400)
    page, _, _ = read_written(root)
    still = page[page.index("<noscript>") : page.index("</noscript>")]
    images = [attributes for tag, attributes in Reader(still).tags if tag == "img"]
    assert len(images) == 46
    for attributes in images:
        assert (root / str(attributes["src"])).is_file()
        assert attributes["alt"]
        assert attributes["loading"] == "lazy"
    assert "refused: content filter" in still
    assert "failed: rate limit" in still


def test_the_plain_wall_of_a_big_run_is_cut_and_says_so(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    row = run.add_image(encode(picture("p", 1, (8, 8))), axes={})
    for index in range(1, MOST_WITHOUT_SCRIPT + 20):
        run.images.append(dataclasses.replace(row, index=index, cell_id=f"{index:064x}"))
    run.write()
    page, reader, data = read_written(tmp_path)
    assert data["count"] == MOST_WITHOUT_SCRIPT + 20
    assert sum(tag == "img" for tag, _ in reader.tags) == MOST_WITHOUT_SCRIPT
    assert "the first 500 of 520 cells" in page


def test_the_page_of_a_run_that_has_just_begun(tmp_path: Path) -> None:
    RunFolder(tmp_path).write(cells=12, status="running", ended_at=None)
    (tmp_path / "images" / "metadata.jsonl").unlink()
    (tmp_path / "failures.jsonl").unlink()
    write_report(tmp_path)
    page, _, data = read(tmp_path)
    assert data["count"] == 0
    assert "to come" in page
    assert 'id="reload"' in page


def test_writing_again_replaces_the_page_and_leaves_nothing_behind(tmp_path: Path) -> None:
    root = single_wall(tmp_path / "run")
    write_report(root)
    before = {path.relative_to(root) for path in root.rglob("*")}
    first = (root / "index.html").read_bytes()
    write_report(root)
    assert {path.relative_to(root) for path in root.rglob("*")} == before
    assert (root / "index.html").read_bytes() == first


def test_a_page_of_the_first_cells_says_so(tmp_path: Path) -> None:
    root = single_wall(tmp_path)
    write_page(root, most=2)
    page, _, data = read(root)
    assert data["count"] == 2
    assert "This page shows the first 2 cells" in page
    page, _, whole = read_written(root)
    assert whole["count"] > 2
    assert "This page shows the first" not in page
