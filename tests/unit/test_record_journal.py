"""Journal lines: readable by anyone, checked, and read back as they were written."""

from __future__ import annotations

import dataclasses
import json
import string
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.record import journal
from runner.record.journal import ATTEMPT_HEAD, decode, encode, intact
from runner.record.paths import RunPaths
from runner.record.rows import AttemptRecord, NoteRecord, OpenRecord, SentRecord
from runner.record.state import load_state
from runner.settings.errors import RequestError
from tests.unit.records import (
    NOW,
    attempt,
    cell_id,
    done,
    failed,
    failure_row,
    image_row,
    picture,
    sent,
)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(), json_values, max_size=3)


@given(
    prompt=st.text(),
    params=objects,
    usage=objects,
    cost=st.none() | st.floats(0, 1e6),
    number=st.integers(0, 10**12),
    call=st.text(string.ascii_letters + string.digits + "_.:-", min_size=1),
    final=st.booleans(),
)
def test_an_attempt_comes_back_as_it_was(
    prompt: str,
    params: dict[str, object],
    usage: dict[str, object],
    cost: float | None,
    number: int,
    call: str,
    final: bool,
) -> None:
    image = image_row(number, picture(1), prompt=prompt, params_sent=params, warnings=(prompt, "b"))
    failure = failure_row(number + 1, "refused", axes={"prompt": prompt}, message=prompt)
    record = AttemptRecord(
        call_id=call,
        at=NOW,
        outcome="partial",
        final=final,
        images=(image,),
        failures=(failure,),
        cost_usd=cost,
        usage=usage,
        recipe={"dtype": "float32"},
    )
    line = encode(record)
    assert line.count(b"\n") == 1
    assert intact(line)
    assert decode(line) == record
    head = ATTEMPT_HEAD.match(line)
    assert head is not None
    assert head[1].decode() == call
    assert (int(head[5]), head[6].decode(), head[7]) == (number, cell_id(number)[:32], b"done")
    assert head[8] == b","


@pytest.mark.parametrize(
    "record",
    [
        OpenRecord(at=NOW, plan_hash="p", host="h", pid=1),
        sent(3, 3, 4, 5),
        sent(3, worst_usd=None),
        NoteRecord(call_id="c", at=NOW, fact={"job": "j-1", "poll": [1, 2]}),
        failed(7),
        attempt(8, outcome="failed"),
    ],
)
def test_every_kind_comes_back_as_it_was(record: journal.Record) -> None:
    line = encode(record)
    assert intact(line)
    assert decode(line) == record
    assert json.loads(line)["schema"] == 1


def test_a_line_can_be_found_with_grep() -> None:
    line = encode(done(3))
    assert line.startswith(b'{"crc":"')
    assert b'"schema":1,"kind":"attempt","call_id":"call-3","outcome":"done"' in line
    assert b'"prompt":"a fox, number 3"' in line


def test_members_with_their_default_are_left_out() -> None:
    row = json.loads(encode(done(3)))["images"][0]
    assert "negative_prompt" not in row
    assert row["index"] == 3


def test_every_flipped_bit_is_found() -> None:
    line = encode(sent(3))
    for at in range(len(line)):
        for bit in range(8):
            broken = bytearray(line)
            broken[at] ^= 1 << bit
            # Only the case of the hexadecimal sum itself says nothing.
            same_sum = broken[8:16].lower() == line[8:16] and broken[16:] == line[16:] and at >= 8
            assert intact(bytes(broken)) == same_sum


def test_every_cut_is_found() -> None:
    line = encode(done(3))
    assert not any(intact(line[:end]) for end in range(len(line)))


def test_a_number_that_json_does_not_have_costs_no_image() -> None:
    record = done(3, params_sent={"cfg": float("nan"), "list": [1.0, float("inf")], "ok": 2.5})
    found = decode(encode(record))
    assert isinstance(found, AttemptRecord)
    assert found.images[0].params_sent == {"cfg": None, "list": [1.0, None], "ok": 2.5}


def test_any_mapping_is_written() -> None:
    record = done(3, params_sent=MappingProxyType({"a": MappingProxyType({"b": 1})}))
    found = decode(encode(record))
    assert isinstance(found, AttemptRecord)
    assert found.images[0].params_sent == {"a": {"b": 1}}


def test_a_call_id_that_would_break_the_head_is_refused() -> None:
    with pytest.raises(ValueError, match="call id"):
        encode(dataclasses.replace(sent(1), call_id='a","x":"'))


def test_a_journal_of_a_later_version_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = RunPaths(tmp_path)
    paths.journal.mkdir()
    monkeypatch.setattr(journal, "SCHEMA_VERSION", 2)
    lines = [encode(OpenRecord(at=NOW, plan_hash="p", host="h", pid=1)), encode(done(1))]
    monkeypatch.undo()
    (paths.journal / "0001-h-1-1.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(RequestError, match=r"schema version 2.*reads up to 1"):
        load_state(paths)


def test_a_retry_settles_no_cell() -> None:
    line = encode(failed(3, final=False))
    assert json.loads(line)["cells"] == [[3, cell_id(3), "retry"]]
    assert json.loads(encode(failed(3)))["cells"] == [[3, cell_id(3), "failed"]]


def test_sent_cells_come_back_as_pairs() -> None:
    record = decode(encode(sent(1, 5, 6)))
    assert isinstance(record, SentRecord)
    assert record.cells == ((5, cell_id(5)), (6, cell_id(6)))
