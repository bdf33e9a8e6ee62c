"""Templates and styles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.plan.text import Template, join_text, styled, text_of
from runner.settings.errors import RequestError
from runner.settings.schema import PromptStyle


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain, text", "plain, text"),
        ("a {animal} in {place}", "a fox in the snow"),
        ("{animal}{animal}", "foxfox"),
        ("{{animal}} {animal}", "{animal} fox"),
        ("{{{animal}}}", "{fox}"),
        ("{two words}", "x y"),
        ("{empty}|{number}|{flag}|{half}|{whole}", "|7|true|0.5|7"),
        ("{tricky}", "{animal} {{"),
    ],
)
def test_templates(template: str, text: str) -> None:
    row = {
        "animal": "fox", "place": "the snow", "two words": "x y", "empty": None, "number": 7,
        "flag": True, "half": 0.5, "whole": 7.0, "tricky": "{animal} {{",
    }  # fmt: skip
    assert Template.parse(template, list(row), "prompt").render(row) == text


@pytest.mark.parametrize(
    ("template", "parts"),
    [
        ("a {anmal}", ["'anmal'", "did you mean 'animal'?", "animal, place"]),
        ("a {}", ["no column ''"]),
        ("a {animal", ["lone '{'", "{{"]),
        ("a animal}", ["lone '}'", "}}"]),
        ("{animal.upper}", ["'animal.upper'"]),
        ("{animal!r}", ["'animal!r'"]),
        ("{{animal}", ["lone '}'"]),
    ],
)
def test_wrong_templates(template: str, parts: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        Template.parse(template, ["animal", "place"], "negative_prompt")
    assert str(caught.value).startswith("negative_prompt: ")
    for part in parts:
        assert part in str(caught.value)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_template_of_escaped_text_is_the_text(text: str) -> None:
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert Template.parse(escaped, [], "prompt").render({}) == text
    assert Template.parse("{column}", ["column"], "prompt").render({"column": text}) == text


@pytest.mark.parametrize(
    ("first", "second", "joined"),
    [
        ("a fox", "oil on canvas", "a fox, oil on canvas"),
        ("", "oil", "oil"),
        ("a fox", "", "a fox"),
        ("a photo of ", "a fox", "a photo of a fox"),
        ("a fox", " in the snow", "a fox in the snow"),
        ("a fox.", "Oil on canvas", "a fox. Oil on canvas"),
        ("a fox,", "oil", "a fox, oil"),
        ("a fox", ", oil", "a fox, oil"),
        ("a fox", "; oil", "a fox; oil"),
        ("style:", "a fox", "style: a fox"),
    ],
)
def test_joints(first: str, second: str, joined: str) -> None:
    assert join_text(first, second) == joined


def test_styles() -> None:
    style = PromptStyle(prefix="oil painting", suffix="muted", negative_prompt="photo")
    assert styled(style, "a fox", None) == ("oil painting, a fox, muted", "photo")
    assert styled(style, "a fox", "blur") == ("oil painting, a fox, muted", "blur, photo")
    assert styled(PromptStyle(native="vivid"), "a fox", None) == ("a fox", None)
    assert styled(PromptStyle(), "", "x") == ("", "x")


def test_text_of_numbers() -> None:
    assert [text_of(value) for value in (1e16, -3.0, 0.1, False, 5)] == [
        "10000000000000000", "-3", "0.1", "false", "5",
    ]  # fmt: skip
