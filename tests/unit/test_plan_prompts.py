"""Prompt files: what they hold, and what is wrong with them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.plan import PromptFile
from runner.plan.prompt_text import _CHUNK
from runner.settings.errors import RequestError


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    file = PromptFile.open(path)
    forward = [dict(file.row(index)) for index in range(len(file))]
    backward = [dict(file.row(index)) for index in reversed(range(len(file)))]
    assert backward == forward[::-1]
    return forward


def test_txt(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "p.txt",
        b"\xef\xbb\xbfa fox\r\n\r\n  a cat, {red}  \n\n\t\n\xc3\xa9t\xc3\xa9 \xe2\x80\xa8 x\nlast",
    )
    assert rows(path) == [
        {"prompt": "a fox"},
        {"prompt": "a cat, {red}"},
        {"prompt": "été \u2028 x"},
        {"prompt": "last"},
    ]
    file = PromptFile.open(path)
    assert file.columns == file.keys == ("prompt",)
    assert file.place(1) == f"{path}, line 3"
    assert file.place(3) == f"{path}, line 7"


def test_csv(tmp_path: Path) -> None:
    text = (
        "prompt, seed ,guidance_scale,note,\r\n"
        '"a fox, ""red""",7,7.5,x,0\r\n'
        "\r\n"
        '"two\nlines\r\n\r\nmore",,5,,1\r\n'
        "\r\n\r\n"
        "a cat,9,,z,2"
    )
    path = written(tmp_path, "p.csv", "\ufeff" + text)
    assert rows(path) == [
        {"prompt": 'a fox, "red"', "seed": 7, "guidance_scale": 7.5, "note": "x"},
        {"prompt": "two\nlines\r\n\r\nmore", "seed": None, "guidance_scale": 5.0, "note": ""},
        {"prompt": "a cat", "seed": 9, "guidance_scale": None, "note": "z"},
    ]
    file = PromptFile.open(path)
    assert file.columns == ("prompt", "seed", "guidance_scale", "note")
    assert file.keys == ("prompt", "seed", "guidance_scale")
    assert file.partial == {"seed", "guidance_scale"}
    assert file.place(1) == f"{path}, line 4"


def test_jsonl(tmp_path: Path) -> None:
    lines = [
        '{"prompt": "a fox", "seed": 7, "tags": ["x"], "size": 512}',
        "",
        '  {"seed": null, "prompt": "caf\\u00e9 \\ud83d\\ude00 [x] {y}", "score": 0.5, '
        '"ok": true}  ',
        '{"prompt": "a cat", "size": "64x64", "tags": "flat"}',
    ]
    path = written(tmp_path, "p.jsonl", "\r\n".join(lines))
    assert rows(path) == [
        {"prompt": "a fox", "seed": 7, "size": "512x512", "score": None, "ok": None},
        {"prompt": "café 😀 [x] {y}", "seed": None, "size": None, "score": 0.5, "ok": True},
        {"prompt": "a cat", "seed": None, "size": "64x64", "score": None, "ok": None},
    ]
    file = PromptFile.open(path)
    assert file.partial == {"seed", "size"}
    assert file.place(1).endswith("line 3")


def test_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    count = 20_000
    table = arrow.table(
        {
            "prompt": [f"number {i}" for i in range(count)],
            "seed": arrow.array([None if i % 2 else i for i in range(count)], arrow.int32()),
            "kind": arrow.array(["a", "b"] * (count // 2)).dictionary_encode(),
            "boxes": [[i] for i in range(count)],
        }
    )
    path = tmp_path / "p.parquet"
    parquet.write_table(table, path, row_group_size=9_000)
    file = PromptFile.open(path)
    assert len(file) == count
    assert file.columns == ("prompt", "seed", "kind")
    assert file.partial == {"seed"}
    for index in (0, 8_191, 8_192, 8_999, 9_000, 17_999, 18_000, count - 1, 5):
        assert file.row(index) == {
            "prompt": f"number {index}",
            "seed": None if index % 2 else index,
            "kind": "ab"[index % 2],
        }
    assert file.place(4) == f"{path}, row 5"
    copy = tmp_path / "copy.parquet"
    copy.write_bytes(path.read_bytes())
    assert file.at(copy).row(9_001) == file.row(9_001)
    table = arrow.table({"prompt": ["a", "b"], "seed": [1, -4]})
    parquet.write_table(table, path)
    with pytest.raises(RequestError, match="row 2: seed cannot be -4"):
        PromptFile.open(path)
    parquet.write_table(arrow.table({"image": [{"bytes": b"x"}]}), path)
    with pytest.raises(RequestError, match="column 'image' sets the key"):
        PromptFile.open(path)
    path.write_bytes(b"PAR1 no")
    with pytest.raises(RequestError, match="not Parquet"):
        PromptFile.open(path)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("p.txt", b"", ["holds no prompt"]),
        ("p.txt", b"\xef\xbb\xbf\n \r\n", ["holds no prompt"]),
        ("p.txt", b"a\nb\0c\n", ["line 2", "NUL"]),
        ("p.txt", b"a\nb\n\xff\xfe", ["line 3", "0xFF", "column 1", "UTF-8"]),
        ("p.txt", b"a\nb\xc3", ["line 2", "UTF-8"]),
        ("p.txt", "a\n".encode("utf-16"), ["line 1"]),
        ("p.yaml", b"a", ["'.yaml'", ".txt, .csv, .jsonl or .parquet"]),
        ("p.csv", b"", ["holds no prompt"]),
        ("p.csv", b"prompt\n", ["holds no prompt"]),
        ("p.csv", b"prompt,seed\na,1\nb\n", ["line 3", "1 fields", "header has 2"]),
        ("p.csv", b"prompt,seed\na,1\n\nb, c,2\n", ["line 4", "3 fields"]),
        ("p.csv", b"prompt,seed\na,1\nb,x\n", ["line 3", "seed cannot be 'x'"]),
        ("p.csv", b'prompt,seed\n"a\nb",1\nb,-1\n', ["line 4", "seed cannot be '-1'"]),
        ("p.csv", b"prompt,seed\na,1\n,2\n", ["line 3", "every row needs a prompt"]),
        ("p.csv", b'prompt,seed\n"a,1\nb,2\n', ["line 3", "not CSV"]),
        ("p.csv", b'prompt,seed\n"a"b,1\n', ["line 2", "not CSV"]),
        ("p.csv", b"prompt,prompt\na,b\n", ["two columns 'prompt'"]),
        ("p.csv", b"prompt,n\na,4\n", ["cannot set n"]),
        ("p.jsonl", b'{"prompt": "a"}\n[1]\n', ["line 2", "one JSON object", "[1]"]),
        ("p.jsonl", b'{"prompt": "a"}\n\n{"prompt": \n', ["line 3", "not JSON"]),
        ("p.jsonl", b'{"prompt": "a"} {"prompt": "b"}\n', ["line 1", "not JSON"]),
        ("p.jsonl", b'{"prompt": "a"},{"prompt": "b"}\n', ["line 1", "not JSON"]),
        ("p.jsonl", b'{"prompt": "a", "x": NaN}\n', ["line 1", "NaN"]),
        ("p.jsonl", b'{"prompt": "\\ud83d"}\n', ["line 1", "U+D83D"]),
        ("p.jsonl", b'{"prompt": "a", "x": "\\u0000"}\n', ["line 1", "'x'", "NUL"]),
        ("p.jsonl", b'{"prompt": "a", "seed": "b"}\n', ["line 1", "seed cannot be 'b'"]),
        ("p.jsonl", b'{"prompt": "a", "seed": true}\n', ["line 1", "seed cannot be True"]),
        ("p.jsonl", b'{"prompt": "a"}\n{"seed": 1}\n', ["line 2", "every row needs a prompt"]),
        ("p.jsonl", b'{"prompt": ["a"]}\n', ["line 1", "prompt cannot be ['a']"]),
        ("p.jsonl", b'{"prompt": 7}\n', ["line 1", "prompt cannot be 7"]),
        ("p.jsonl", b"[" * 5000, ["line 1", "not JSON"]),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, content: bytes, parts: list[str]) -> None:
    path = written(tmp_path, name, content)
    with pytest.raises(RequestError) as caught:
        PromptFile.open(path)
    assert str(path) in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_missing_files(tmp_path: Path) -> None:
    written(tmp_path, "prompts.txt", "a")
    with pytest.raises(RequestError, match=r"does not exist; did you mean 'prompts\.txt'\?"):
        PromptFile.open(tmp_path / "promts.txt")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(RequestError, match="cannot be read"):
        PromptFile.open(tmp_path / "folder.txt")


# Texts that a line of a .csv file can hold, in characters that its reader must not split at.
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30
).filter(lambda text: text.strip() != "")


@given(st.lists(st.tuples(TEXTS, st.none() | st.integers(0, 2**63 - 1)), min_size=1, max_size=20))
def test_csv_and_jsonl_hold_any_text(
    tmp_path_factory: pytest.TempPathFactory, data: list[tuple[str, int | None]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL)
    writer.writerow(["prompt", "seed"])
    writer.writerows((prompt, "" if seed is None else seed) for prompt, seed in data)
    expected = [{"prompt": prompt, "seed": seed} for prompt, seed in data]
    assert rows(written(folder, "p.csv", buffer.getvalue())) == expected
    for ascii_only in (True, False):
        lines = [json.dumps(row, ensure_ascii=ascii_only) for row in expected]
        assert rows(written(folder, "p.jsonl", "\n\n".join(lines))) == expected


@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl"])
def test_files_longer_than_a_chunk(tmp_path: Path, suffix: str) -> None:
    count = 3 * _CHUNK // 60
    prompts = [f"number {i}: " + "x" * (1 + i % 97) for i in range(count)]
    if suffix == "csv":
        prompts = [prompt.replace(": ", ',\n"') for prompt in prompts]
        buffer = io.StringIO(newline="")
        csv.writer(buffer).writerows([["prompt", "seed"], *([p, i] for i, p in enumerate(prompts))])
        text = buffer.getvalue()
    elif suffix == "jsonl":
        text = "\n".join(json.dumps({"prompt": p, "seed": i}) for i, p in enumerate(prompts))
    else:
        text = "\n".join(prompts)
    file = PromptFile.open(written(tmp_path, f"p.{suffix}", text))
    assert [file.row(index)["prompt"] for index in range(count)] == prompts
    longest = max(len(prompt) for prompt in prompts)
    assert longest in [len(str(file.row(row)["prompt"])) for row in file.representatives]
    if suffix != "txt":
        wrong = text.replace(f"{count - 1}\r\n", "x\r\n").replace(
            f'"seed": {count - 1}', '"seed": -3'
        )
        with pytest.raises(RequestError) as caught:
            PromptFile.open(written(tmp_path, f"w.{suffix}", wrong))
        line = 2 * count if suffix == "csv" else count
        assert f"line {line}:" in str(caught.value)


def test_a_quoted_field_may_be_longer_than_a_chunk(tmp_path: Path) -> None:
    long = "\n".join(["ééé"] * (_CHUNK // 5))
    assert len(long) < 131_072, "the csv module's limit"
    assert len(long.encode()) > _CHUNK
    path = written(tmp_path, "p.csv", f'prompt,note\na,b\nb,"{long}"\nc,d\n')
    file = PromptFile.open(path)
    assert [file.row(index)["prompt"] for index in range(3)] == ["a", "b", "c"]
    assert file.row(1)["note"] == long


def test_representatives_show_what_a_check_wants(tmp_path: Path) -> None:
    lines = ["prompt,seed,size,negative_prompt"]
    lines += [f"p{i},{1000 + i},64x64," for i in range(500)]
    lines[100] = "p,5,128x64,"
    lines[200] = "p,99999,64x64,ugly"
    lines[300] = f"{'long ' * 50},1500,64x64,"
    file = PromptFile.open(written(tmp_path, "p.csv", "\n".join(lines)))
    shown = [file.row(row) for row in file.representatives]
    assert {row["size"] for row in shown} == {"64x64", "128x64"}
    assert {5, 99999} <= {row["seed"] for row in shown}
    assert "ugly" in {row["negative_prompt"] for row in shown}
    assert "long " * 50 in {row["prompt"] for row in shown}
    assert len(shown) < 10


def test_the_same_rows_in_a_copy(tmp_path: Path) -> None:
    path = written(tmp_path, "p.csv", "prompt,seed\na,1\nb,2\n")
    file = PromptFile.open(path)
    copy = file.at(written(tmp_path, "copy.bin", path.read_bytes()))
    path.write_text("prompt,seed\nx,7\ny,8\n")
    assert [dict(copy.row(index)) for index in range(2)] == [
        {"prompt": "a", "seed": 1},
        {"prompt": "b", "seed": 2},
    ]
    assert copy.path == str(path)
    assert copy.sha256 == file.sha256
