"""Sizes, prices and lifecycles: what the data in ``conf/model/`` means."""

from __future__ import annotations

import datetime
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.providers.contract import UNKNOWN_PRICE, Price
from runner.providers.lifecycle import lifecycle_warning
from runner.providers.prices import PriceBook, Usage, patch_tokens, price_book, settle
from runner.providers.sizes import Size, SizeError, Sizes, parse_size
from runner.settings.errors import RequestError
from runner.settings.schema import Lifecycle, ModelSettings

FREE = Sizes(
    table=("1024x1024", "1536x1024", "1024x1536"),
    words=("auto",),
    multiple_of=16,
    max_side=3840,
    min_pixels=655_360,
    max_pixels=8_294_400,
    max_aspect=3,
)
FIXED = Sizes(table=("1024x1024", "1536x1024", "1024x1536"), words=("auto",))
RATIOS = Sizes(ratios=("1:1", "16:9", "9:16", "3:2"), levels=("1K", "2K"))


class TestSizes:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("1024x768", Size(pixels=(1024, 768))),
            (" 1024 X 768 ", Size(pixels=(1024, 768))),
            ("1024*768", Size(pixels=(1024, 768))),
            ("16:9", Size(ratio=(16, 9))),
            ("2K", Size(level="2K")),
            ("2k", Size(level="2K")),
            ("0.5K", Size(level="0.5K")),
            ("512", Size(level="512")),
            ("16:9@2k", Size(ratio=(16, 9), level="2K")),
            ("auto", Size(word="auto")),
            ("Square_HD", Size(word="square_hd")),
        ],
    )
    def test_dialects(self, text: str, size: Size) -> None:
        assert parse_size(text) == size

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "x",
            "0x5",
            "5x0",
            "16:0",
            "1024x",
            "-1x5",
            "16:9@",
            "16:9@0K",
            "0",
            "16:9@big",
            "1e3x5",
            "9" * 9,
        ],
    )
    def test_nonsense(self, text: str) -> None:
        if text == "x":
            assert parse_size(text) == Size(word="x")
        else:
            with pytest.raises(SizeError, match="1024x1024"):
                parse_size(text)

    @given(st.text(max_size=12))
    def test_any_text_is_a_size_or_an_error(self, text: str) -> None:
        for sizes in (FREE, FIXED, RATIOS):
            for ask in (sizes.pixels, sizes.ratio):
                try:
                    assert ask(text).native
                except SizeError as error:
                    assert str(error)

    @pytest.mark.parametrize(
        ("text", "free", "fixed"),
        [
            ("1024x1024", "1024x1024", "1024x1024"),
            ("16:9", "1280x720", "1536x1024"),
            ("9:16", "720x1280", "1024x1536"),
            ("1:1", "1024x1024", "1024x1024"),
            ("3:2", "1248x832", "1536x1024"),
            ("2K", "2048x2048", None),
            ("16:9@4K", "3840x2160", None),
            ("3:1", "1776x592", None),
            ("4:1", None, None),
            ("512", None, None),
            ("1000x1000", None, None),
            ("1536x864", "1536x864", None),
            ("3840x2176", None, None),
            ("auto", "auto", "auto"),
            ("square", None, None),
        ],
    )
    def test_what_is_sent(self, text: str, free: str | None, fixed: str | None) -> None:
        for sizes, native in ((FREE, free), (FIXED, fixed)):
            if native is None:
                with pytest.raises(SizeError, match="1536x1024"):
                    sizes.pixels(text)
            else:
                assert sizes.pixels(text).native == native

    @given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["", "@1K", "@2K", "@4K"]))
    def test_a_chosen_size_is_always_one_that_is_taken(self, w: int, h: int, level: str) -> None:
        try:
            chosen = FREE.pixels(f"{w}:{h}{level}")
        except SizeError:
            return
        assert FREE.pixels(chosen.native).native == chosen.native
        assert chosen.width is not None
        assert chosen.height is not None
        off = abs(math.log(chosen.width / chosen.height * h / w))
        assert (chosen.warning is None) == (off <= 0.02)

    def test_a_different_shape_is_told(self) -> None:
        assert "1536x1024" in str(FIXED.pixels("16:9").warning)
        assert FIXED.pixels("3:2").warning is None

    def test_ratios(self) -> None:
        assert RATIOS.ratio("1920x1080").native == "16:9"
        assert RATIOS.ratio("1920x1080").warning is None
        assert RATIOS.ratio("1000x900").warning
        assert RATIOS.ratio("16:9@2K").native == "16:9"
        assert RATIOS.level("16:9@2K") == "2K"
        for text in ("4:3", "16:9@4K", "5000x100", "auto"):
            with pytest.raises(SizeError, match="16:9"):
                RATIOS.ratio(text)


BOOK = PriceBook.model_validate(
    {
        "as_of": "2026-11-20",
        "source": "a test",
        "images": [
            {"usd": 0.04, "quality": ["standard"], "size": ["1024x1024"]},
            {"usd": 0.08, "quality": ["hd"], "size": ["1024x1024"]},
            {"usd": 0.12, "quality": ["hd"], "size": ["1792x1024"]},
        ],
    }
)


class TestPrices:
    @pytest.mark.parametrize(
        ("patches", "size", "tokens"),
        [
            (16, (1024, 1024), 196),
            (48, (1024, 1024), 1756),
            (96, (1024, 1024), 7024),
            (16, (1536, 1024), 158),
            (48, (1024, 1536), 1372),
            (96, (3840, 2160), 13342),
        ],
    )
    def test_patch_formula(self, patches: int, size: tuple[int, int], tokens: int) -> None:
        assert patch_tokens(patches, *size) == tokens

    def test_rows(self) -> None:
        point = BOOK.per_image(quality="standard", size="1024x1024")
        assert point == Price(0.04, 0.04, "price_book")
        assert BOOK.per_image(quality="hd") == Price(0.08, 0.12, "estimate")
        assert BOOK.per_image() == Price(0.04, 0.12, "estimate")
        assert BOOK.per_image(quality="auto", size="1792x1024") == Price(0.12, 0.12, "price_book")
        assert BOOK.per_image(quality="standard", size="1792x1024") == UNKNOWN_PRICE

    def test_pixels(self) -> None:
        book = PriceBook.model_validate(
            {"as_of": "2026-11-20", "source": "a test", "megapixel_usd": 0.0013}
        )
        price = book.per_image(size="1024x1024")
        assert price.high_usd == pytest.approx(0.00136, abs=1e-5)
        assert book.per_image(size="auto") == UNKNOWN_PRICE
        assert book.per_image() == UNKNOWN_PRICE

    def test_usage(self) -> None:
        book = PriceBook.model_validate(
            {
                "as_of": "2026-11-20",
                "source": "a test",
                "tokens": {"text_in": 5, "image_in": 8, "image_out": 30},
            }
        )
        usage = Usage(text_in=1_000_000, image_in=500_000, image_out=100_000)
        assert book.from_usage(usage) == pytest.approx(5 + 4 + 3)
        assert book.from_usage(Usage(text_out=1)) is None, "a rate that is not known is not 0"
        assert BOOK.from_usage(usage) is None

    def test_order_of_trust(self) -> None:
        book = Price(0.04, 0.05, "estimate")
        assert settle(2, reported_usd=0.5, usage_usd=0.1, book=book) == (0.5, "reported")
        assert settle(2, usage_usd=0.1, book=book) == (0.1, "usage")
        assert settle(2, book=book) == (0.1, "estimate")
        assert settle(2, book=Price(0.04, 0.04, "price_book")) == (0.08, "price_book")
        assert settle(2) == (None, "unknown")
        assert settle(0, book=book) == (None, "unknown")
        assert settle(0, reported_usd=0.0) == (0.0, "reported")

    def test_wrong_data_is_one_sentence_each(self) -> None:
        model = ModelSettings(name="m", price={"as_of": "soon", "image": []})
        with pytest.raises(RequestError) as caught:
            price_book(model)
        assert any("did you mean 'images'" in text for text in caught.value.problems)
        assert any("model.price.source" in text for text in caught.value.problems)
        assert price_book(ModelSettings(name="m")) is None


class TestLifecycle:
    TODAY = datetime.date(2026, 11, 21)

    @pytest.mark.parametrize(
        ("state", "date", "words"),
        [
            ("active", None, None),
            ("active", "2026-12-01", ("2026-12-01", "in 10 days", "use better")),
            ("deprecated", "2026-12-01", ("2026-12-01", "in 10 days", "use better")),
            ("deprecated", "2026-11-22", ("tomorrow",)),
            ("deprecated", "2026-11-21", ("was retired on 2026-11-21",)),
            ("deprecated", None, ("is deprecated", "use better")),
            ("retired", "2026-05-12", ("was retired on 2026-05-12", "use better")),
            ("retired", None, ("was retired", "use better")),
            ("preview", None, ("preview",)),
        ],
    )
    def test_sentences(self, state: str, date: str | None, words: tuple[str, ...] | None) -> None:
        life = Lifecycle.model_validate({"state": state, "date": date, "replacement": "better"})
        found = lifecycle_warning(ModelSettings(name="old", lifecycle=life), self.TODAY)
        if words is None:
            assert found is None
        else:
            assert found is not None
            assert all(word in found for word in ("old", *words))
