"""The contract for ``provider=replicate``, and what only Replicate has."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web
from PIL import Image

from runner.providers.contract import Missing
from runner.providers.registry import make_provider
from runner.providers.replicate import INLINE_BYTES, KEY_VARIABLES
from runner.settings.errors import RequestError
from tests.contract.suite import ProviderContract
from tests.contract.support import Asked, ask, ask_open, attach, opened
from tests.servers.loopback import Loopback, picture
from tests.servers.replicate import ReplicateServer


class TestReplicate(ProviderContract):
    provider = "replicate"
    server_type = ReplicateServer
    variables = KEY_VARIABLES
    families = ("replicate",)
    count_field = "num_outputs"
    cost_basis = "price_book"
    has_jobs = True
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "16:9",
        "seed": 7,
        "steps": 20,
        "guidance_scale": 4.0,
        "output_format": "png",
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1:9"}
    operations: ClassVar[Mapping[str, str]] = {
        "img2img": "pipeline=img2img pipeline.image=IMAGE pipeline.strength=0.8",
        "inpaint": "model=replicate/flux_fill_pro pipeline=inpaint pipeline.image=IMAGE "
        "pipeline.mask=MASK",
        "controlnet": "model=replicate/flux_canny_dev pipeline=controlnet "
        "pipeline.control_image=OTHER",
    }

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        path = tmp_path / "in.png"
        path.write_bytes(picture(3, size=(64, 48)))
        return path

    def test_pixels_and_ratios(self, server: Loopback) -> None:
        settings = self.settings(server, "model=replicate/flux_1_1_pro")
        ask(settings, self.params(size="1024x768"))
        ask(settings, self.params(size="3:2"))
        sent = [{**seen.json["input"], "prompt": None} for seen in server.calls()]
        assert sent == [
            {"prompt": None, "aspect_ratio": "custom", "width": 1024, "height": 768},
            {"prompt": None, "aspect_ratio": "3:2"},
        ]

    def test_strength_is_theirs(self, server: Loopback, image: Path) -> None:
        settings = self.settings(server, "pipeline.name=img2img")
        assert ask(settings, self.params(image=str(image), strength=0.7)).pictures
        assert server.calls()[0].json["input"]["prompt_strength"] == 0.7

    def test_inpaint(self, server: Loopback, image: Path, tmp_path: Path) -> None:
        drawn = Image.new("L", (64, 48), 0)
        drawn.paste(255, (0, 0, 20, 48))
        drawn.save(tmp_path / "mask.png")
        settings = self.settings(server, "model=replicate/flux_fill_pro", "pipeline.name=inpaint")
        params = self.params(image=str(image), mask=str(tmp_path / "mask.png"))
        (found,) = ask(settings, params).pictures
        assert found.data in server.files.values()
        assert [found.tobytes() for found in server.repainted] == [drawn.tobytes()]

    def test_control_image(self, server: Loopback, image: Path) -> None:
        settings = self.settings(
            server, "model=replicate/flux_canny_dev", "pipeline.name=controlnet"
        )
        assert ask(settings, self.params(control_image=str(image))).pictures

    def test_large_inputs_are_uploaded_once(self, server: Loopback, tmp_path: Path) -> None:
        large = tmp_path / "large.png"
        Image.frombytes("RGB", (400, 400), os.urandom(480_000)).save(large)
        assert large.stat().st_size > INLINE_BYTES
        settings = self.settings(server, "pipeline.name=img2img")
        params = self.params(image=str(large), strength=0.5)

        async def at_once() -> list[Asked]:
            async with opened(settings) as provider:
                return await asyncio.gather(*(ask_open(provider, params, 2) for _ in range(4)))

        assert sum(len(asked.pictures) for asked in asyncio.run(at_once())) == 8
        uploads = [seen for seen in server.requests if seen.path == "/v1/files"]
        assert [seen.files[0][1].data for seen in uploads] == [large.read_bytes()]
        assert "/files/upload-0" in server.calls()[0].json["input"]["image"]

    def test_a_version_by_its_id(self, server: Loopback) -> None:
        version = "ab" * 32
        asked = ask(self.settings(server, f"model.revision='{version}'"), self.params())
        assert len(asked.pictures) == 1, asked.fault
        assert server.calls()[0].path == "/v1/predictions"
        assert server.calls()[0].json["version"] == version

    def test_options_are_those_of_the_model(self, server: Loopback) -> None:
        given = ("+provider.options.go_fast=false", "+provider.options.megapixels='0.25'")
        assert ask(self.settings(server, *given), self.params()).pictures
        sent = server.calls()[0].json["input"]
        assert (sent["go_fast"], sent["megapixels"]) == (False, "0.25")
        with pytest.raises(RequestError, match="safety_tolerance: model black-forest-labs"):
            make_provider(self.settings(None, "+provider.options.safety_tolerance=3"))

    @pytest.mark.parametrize("status", ["canceled", "aborted"])
    def test_what_somebody_stopped_is_not_started_again(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch, status: str
    ) -> None:
        body = {"id": "job-1", "status": status, "error": None}
        monkeypatch.setattr(server, "_poll", lambda _: web.json_response(body))
        fault = self.ask(server).fault
        assert fault is not None
        assert (fault.kind, fault.code) == ("invalid", status)

    def test_pictures_that_were_deleted(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = self.ask(server, n=2)
        body = {"id": "job-1", "status": "succeeded", "output": None, "data_removed": True}
        monkeypatch.setattr(server, "_poll", lambda _: web.json_response(body))
        answer = attach(self.settings(server), self.params(), first.listener.notes[0], 2).answer
        assert answer is not None
        for output in answer.outputs:
            assert isinstance(output, Missing)
            assert output.kind == "result_lost"

    def test_options_count_by_the_content_of_files(self, tmp_path: Path) -> None:
        ids = []
        for name in ("a.png", "b.png"):
            (tmp_path / name).write_bytes(picture(5))
            overrides = ("model=replicate/flux_2_dev", "pipeline.name=img2img")
            option = f"+provider.options.images=['{tmp_path / name}']"
            ids.append(make_provider(self.settings(None, *overrides, option)).identity())
        assert ids[0] == ids[1]
