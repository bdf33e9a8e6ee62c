"""The contract for ``provider=google_ai_studio``, and what only Gemini's images have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web

from runner.providers.contract import Missing
from runner.providers.google_ai_studio import KEY_VARIABLES
from runner.providers.registry import make_provider
from runner.settings.errors import RequestError
from tests.contract.suite import ProviderContract
from tests.contract.support import ask, in_request
from tests.servers.google import GeminiServer, camel
from tests.servers.loopback import Loopback, image_base64, picture


class TestGoogleAIStudio(ProviderContract):
    provider = "google_ai_studio"
    server_type = GeminiServer
    variables = KEY_VARIABLES
    families = ("google",)
    retired = "google/gemini_3_1_flash_image_preview"
    count_field = None
    returns_urls = False
    samples: ClassVar[Mapping[str, Any]] = {"size": "16:9@4K", "seed": 7}
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "16:9@512"}

    # ------------------------------------------------------------------ what is sent

    def test_ratio_level_and_seed(self, server: Loopback) -> None:
        asked = self.ask(server, size="16:9@2K", seed=0)
        assert asked.answer is not None, asked.fault
        sent = {"aspectRatio": "16:9", "imageSize": "2K", "seed": 0}
        assert asked.answer.params_sent == {"model": "gemini-nano-banana-2.1", **sent}
        (seen,) = server.calls()
        assert seen.path == "/v1beta/models/gemini-nano-banana-2.1:generateContent"
        assert seen.json == {
            "contents": [{"role": "user", "parts": [{"text": "a red lighthouse"}]}],
            "generationConfig": {
                "responseModalities": ["IMAGE"],
                "seed": 0,
                "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
            },
        }

    @pytest.mark.parametrize(
        ("size", "config"),
        [
            (None, None),
            ("4K", {"imageSize": "4K"}),
            ("3:2", {"aspectRatio": "3:2"}),
            ("1024x1024", {"aspectRatio": "1:1", "imageSize": "1K"}),
            ("2752x1536", {"aspectRatio": "16:9", "imageSize": "2K"}),
        ],
    )
    def test_sizes(
        self, server: Loopback, size: str | None, config: Mapping[str, str] | None
    ) -> None:
        assert self.ask(server, size=size).pictures
        assert server.calls()[0].json["generationConfig"].get("imageConfig") == config

    def test_each_image_has_its_own_seed(self, server: Loopback) -> None:
        capabilities = make_provider(self.settings(server)).capabilities()
        assert capabilities.seed_per_image
        assert capabilities.max_images_per_call == 1

    def test_options_go_on_the_wire(self, server: Loopback) -> None:
        settings = self.settings(
            server,
            "+provider.options.safety={harassment: BLOCK_NONE}",
            "+provider.options.temperature=0.5",
            "+provider.options.top_p=0.9",
            "+provider.options.thinking_level=high",
            "+provider.options.system_instruction='Draw flat.'",
        )
        assert ask(settings, self.params()).pictures
        body = camel(server.calls()[0].json)
        assert body["safetySettings"] == [
            {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}
        ]
        assert body["generationConfig"]["thinkingConfig"] == {"thinkingLevel": "HIGH"}
        assert body["generationConfig"]["temperature"] == 0.5
        assert body["generationConfig"]["topP"] == 0.9
        assert body["systemInstruction"]["parts"] == [{"text": "Draw flat."}]

    def test_several_input_images_in_their_order(self, server: Loopback, tmp_path: Path) -> None:
        paths = [tmp_path / f"secret-name-{at}" for at in range(3)]
        for path, kind in zip(paths, ("PNG", "JPEG", "WEBP"), strict=True):
            path.write_bytes(picture(1, kind))
        settings = self.settings(
            server,
            "pipeline.name=img2img",
            f"+provider.options.images=['{paths[1]}','{paths[2]}']",
        )
        assert ask(settings, self.params(image=str(paths[0]))).pictures
        (seen,) = server.calls()
        parts = camel(seen.json)["contents"][0]["parts"]
        mimes = [part["inlineData"]["mimeType"] for part in parts[:-1]]
        assert mimes == ["image/png", "image/jpeg", "image/webp"]
        assert all(in_request(seen, path.read_bytes()) for path in paths)
        assert parts[-1] == {"text": "a red lighthouse"}
        assert b"secret-name" not in seen.body

    def test_images_count_by_content(self, tmp_path: Path) -> None:
        one, same, other = (tmp_path / name for name in ("a.png", "b.png", "c.png"))
        for path, number in ((one, 1), (same, 1), (other, 2)):
            path.write_bytes(picture(number))

        def identity(path: Path) -> object:
            option = f"+provider.options.images=['{path}']"
            return make_provider(self.settings(None, "pipeline.name=img2img", option)).identity()

        assert identity(one) == identity(same) != identity(other)

    # ------------------------------------------------------------------ refusals

    @pytest.mark.parametrize(
        ("finish", "outcome"),
        [
            ("IMAGE_SAFETY", "refused"),
            ("IMAGE_PROHIBITED_CONTENT", "refused"),
            ("IMAGE_RECITATION", "refused"),
            ("SAFETY", "refused"),
            ("PROHIBITED_CONTENT", "refused"),
            ("BLOCKLIST", "refused"),
            ("SPII", "refused"),
            ("NO_IMAGE", "failed"),
            ("IMAGE_OTHER", "failed"),
            ("MAX_TOKENS", "failed"),
        ],
    )
    def test_reasons_to_finish(self, server: GeminiServer, finish: str, outcome: str) -> None:
        server.script(lambda _: server.reply("m", 0, finish=finish, message="Because."))
        answer = self.ask(server).answer
        assert answer is not None
        (missing,) = answer.outputs
        assert isinstance(missing, Missing)
        assert (missing.outcome, missing.code, missing.message) == (outcome, finish, "Because.")

    def test_a_blocked_prompt_says_why(self, server: GeminiServer) -> None:
        feedback = {"blockReason": "SAFETY", "blockReasonMessage": "Not this."}
        server.script(lambda _: server.reply("m", 0, feedback=feedback))
        answer = self.ask(server).answer
        assert answer is not None
        (missing,) = answer.outputs
        assert missing == Missing(
            outcome="refused", kind="prompt_blocked", code="SAFETY", message="Not this."
        )

    def test_words_instead_of_a_picture_are_a_refusal(self, server: Loopback) -> None:
        answer = self.ask(server, "text").answer
        assert answer is not None
        (missing,) = answer.outputs
        assert isinstance(missing, Missing)
        assert missing.kind == "text_only"
        assert missing.message == "I would rather not."
        assert answer.cost_basis == "usage"

    def test_pictures_of_thoughts_are_skipped(self, server: GeminiServer) -> None:
        thought = {"thought": True, "inlineData": {"data": image_base64("ok", 9)}}
        server.script(lambda _: server.reply("m", 0, {"parts": [thought]}, finish="NO_IMAGE"))
        assert self.ask(server).pictures == []
        assert self.ask(server).pictures[0].data == picture(1)

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"candidates": []},
            {"candidates": "text"},
            {"candidates": [None]},
            {"candidates": [{"content": {"parts": [None, {"inlineData": {"data": 7}}]}}]},
        ],
    )
    def test_odd_answers_are_no_images(self, server: Loopback, body: object) -> None:
        server.script(lambda _: web.json_response(body))
        asked = self.ask(server)
        assert asked.answer is not None, asked.fault
        assert asked.pictures == []

    def test_a_second_picture_is_told(self, server: GeminiServer) -> None:
        parts = [{"inlineData": {"data": image_base64("ok", at)}} for at in (1, 2)]
        server.script(lambda _: server.reply("m", 0, {"parts": parts}))
        (found,) = self.ask(server).pictures
        assert "2 images came" in found.warnings[0]

    # ------------------------------------------------------------------ faults and money

    def test_a_region_without_service_stops_the_provider(self, server: Loopback) -> None:
        error = {
            "code": 400,
            "status": "FAILED_PRECONDITION",
            "message": "User location is not supported for the API use.",
        }
        server.script(lambda _: web.json_response({"error": error}, status=400))
        fault = self.ask(server).fault
        assert fault is not None
        assert fault.kind == "auth"
        assert "location" in fault.message

    def test_cost_from_usage_counts_thoughts(self, server: Loopback) -> None:
        answer = self.ask(server, size="4K").answer
        assert answer is not None
        assert answer.cost_usd == pytest.approx((5 * 1.5 + 2520 * 30 + 108 * 7.5) / 1e6)
        assert answer.usage["thoughtsTokenCount"] == 100

    def test_estimate_is_by_level(self) -> None:
        provider = make_provider(self.settings(None, "model=google/gemini_3_1_flash_image"))
        prices = [
            provider.estimate(self.params(size=size)).high_usd for size in ("512", None, "2K", "4K")
        ]
        assert prices == [pytest.approx(usd, abs=1e-3) for usd in (0.045, 0.067, 0.101, 0.151)]
        unknown = make_provider(self.settings(None)).estimate(self.params(size="2K"))
        assert unknown.basis == "unknown"

    @pytest.mark.parametrize(
        ("overrides", "word"),
        [
            (("+provider.options.images=[a.png]",), "img2img"),
            (
                (
                    "+provider.options.thinking_level=high",
                    "model=google/gemini_2_5_flash_image",
                ),
                "has none",
            ),
            (
                (
                    "pipeline.name=img2img",
                    "+provider.options.images=[a,b,c]",
                    "model=google/gemini_2_5_flash_image",
                ),
                "takes 3",
            ),
            (("+provider.options.safety={spam: OFF}",), "safety"),
        ],
    )
    def test_options_that_do_not_fit(self, overrides: tuple[str, ...], word: str) -> None:
        with pytest.raises(RequestError, match=word):
            make_provider(self.settings(None, *overrides))

    def test_an_edit_needs_an_image(self) -> None:
        (problem,) = make_provider(self.settings(None, "pipeline.name=img2img")).check(
            self.params()
        )
        assert "pipeline.image" in problem
