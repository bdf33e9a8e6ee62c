"""The contract for ``provider=black_forest_labs``, and what only its API has."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from runner.providers.black_forest_labs import KEY_VARIABLES
from runner.providers.registry import make_provider
from tests.contract.suite import ProviderContract
from tests.contract.support import ask, attach
from tests.servers.black_forest_labs import BlackForestLabsServer
from tests.servers.loopback import Loopback, picture

FAMILY = "model=black_forest_labs"


class TestBlackForestLabs(ProviderContract):
    provider = "black_forest_labs"
    server_type = BlackForestLabsServer
    variables = KEY_VARIABLES
    families = ("black_forest_labs",)
    count_field = None
    cost_basis = "reported"
    has_jobs = True
    samples: ClassVar[Mapping[str, Any]] = {"size": "1536x1024", "seed": 7, "output_format": "png"}
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "4096x4096"}
    operations: ClassVar[Mapping[str, str]] = {
        "edit": "pipeline=img2img pipeline.image=IMAGE +provider.options.images=[OTHER]",
        "inpaint": "model=black_forest_labs/flux_fill pipeline=inpaint pipeline.image=IMAGE "
        "pipeline.mask=MASK",
        "outpaint": "model=black_forest_labs/flux_expand pipeline=img2img pipeline.image=IMAGE "
        "+provider.options.left=64",
    }

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        path = tmp_path / "in.png"
        path.write_bytes(picture(3, size=(64, 48)))
        return path

    def test_cost_in_credits(self, server: Loopback) -> None:
        answer = self.ask(server).answer
        assert answer is not None
        assert answer.cost_usd == pytest.approx(0.045)
        assert answer.usage["credits"] == 4.5

    def test_progress_is_heard(self, server: Loopback) -> None:
        assert self.ask(server).listener.steps == [(40, 100)]

    def test_estimates_by_the_megapixel(self) -> None:
        provider = make_provider(self.settings(None))
        assert provider.estimate(self.params()).high_usd == pytest.approx(0.03)
        found = provider.estimate(self.params(size="2048x1024"))
        assert (found.low_usd, found.high_usd) == pytest.approx((0.045, 0.045))
        assert found.basis == "price_book"
        edits = make_provider(self.settings(None, "pipeline.name=img2img"))
        found = edits.estimate(self.params(size="1024x1024"))
        assert (found.low_usd, found.high_usd) == pytest.approx((0.045, 0.165))
        assert found.basis == "estimate"

    def test_several_inputs_have_names_of_their_own(
        self, server: Loopback, image: Path, tmp_path: Path
    ) -> None:
        more = [tmp_path / f"{at}.png" for at in range(2)]
        for at, path in enumerate(more):
            path.write_bytes(picture(at + 10))
        listed = ",".join(f"'{path}'" for path in more)
        settings = self.settings(
            server, "pipeline.name=img2img", f"+provider.options.images=[{listed}]"
        )
        assert ask(settings, self.params(image=str(image))).pictures
        body = server.calls()[0].json
        sent = [body["input_image"], body["input_image_2"], body["input_image_3"]]
        assert [base64.b64decode(text) for text in sent] == [
            path.read_bytes() for path in (image, *more)
        ]

    def test_too_many_inputs(self, image: Path) -> None:
        listed = ",".join([f"'{image}'"] * 4)
        provider = make_provider(
            self.settings(
                None,
                f"{FAMILY}/flux_2_klein_4b",
                "pipeline.name=img2img",
                f"+provider.options.images=[{listed}]",
            )
        )
        assert provider.check(self.params(image=str(image))) == [
            "provider.options.images: at most 3 are taken"
        ]

    def test_flux_3(self, server: Loopback) -> None:
        settings = self.settings(server, f"{FAMILY}/flux_3_image")
        answer = ask(settings, self.params(size="16:9", quality="2k")).answer
        assert answer is not None
        assert answer.params_sent == {"aspect_ratio": "16:9", "resolution": "2k"}
        assert "seed" not in make_provider(settings).capabilities().params
        assert make_provider(settings).estimate(self.params(quality="4k")).high_usd == 0.607

    def test_an_image_prompt_keeps_and_our_strength_changes(
        self, server: Loopback, image: Path
    ) -> None:
        settings = self.settings(server, f"{FAMILY}/flux_1_1_pro_ultra", "pipeline.name=img2img")
        assert ask(settings, self.params(image=str(image), strength=0.7)).pictures
        assert server.calls()[0].json["image_prompt_strength"] == 0.3

    def test_inpaint(self, server: Loopback, image: Path, tmp_path: Path) -> None:
        drawn = Image.new("L", (64, 48), 0)
        drawn.paste(255, (0, 0, 20, 48))
        drawn.save(tmp_path / "mask.png")
        settings = self.settings(server, f"{FAMILY}/flux_fill", "pipeline.name=inpaint")
        params = self.params(image=str(image), mask=str(tmp_path / "mask.png"))
        assert ask(settings, params).pictures
        assert [found.tobytes() for found in server.repainted] == [drawn.tobytes()]

    def test_expand(self, server: Loopback, image: Path) -> None:
        settings = self.settings(
            server,
            f"{FAMILY}/flux_expand",
            "pipeline.name=img2img",
            "+provider.options.left=256",
            "+provider.options.top=0",
        )
        assert ask(settings, self.params(image=str(image))).pictures
        body = server.calls()[0].json
        assert (body["left"], body["top"]) == (256, 0)

    def test_why_a_picture_was_moderated(self, server: Loopback) -> None:
        fault = self.ask(server, "refused_late").fault
        assert fault is not None
        assert "Derivative Works Filter" in fault.message

    def test_polls_of_other_hosts_do_not_get_the_key(self, server: Loopback) -> None:
        first = self.ask(server)
        fact = {**first.listener.notes[0], "polling_url": "https://api.example.com/get?id=job-0001"}
        again = attach(self.settings(server), self.params(), fact)
        assert [found.data for found in again.pictures] == [found.data for found in first.pictures]
