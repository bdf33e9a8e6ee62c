"""The contract for ``provider=openai_compatible``, through its presets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aiohttp import web

from runner.providers.openai_compatible import KEY_VARIABLES
from runner.providers.registry import make_provider
from runner.settings.errors import RequestError
from runner.settings.schema import VariantSettings
from tests.contract.suite import ProviderContract
from tests.contract.support import ask, at_address, variant
from tests.servers.compatible import GatewayServer, SglangServer, VllmOmniServer
from tests.servers.images import ImagesServer
from tests.servers.loopback import Loopback, picture


class TestVllmOmni(ProviderContract):
    provider = "openai_compatible"
    server_type = VllmOmniServer
    variables = KEY_VARIABLES
    key_required = False
    overrides = ("model=openai_compatible/vllm_omni",)
    cost_basis = "unknown"
    returns_urls = False
    tells_credit = False
    tells_refusals = False
    sends_request_id = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1328x1328",
        "output_format": "webp",
        "negative_prompt": "rain",
        "seed": 7,
        "steps": 20,
        "guidance_scale": 4.5,
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1001x1001"}

    def test_strength_and_the_mask_have_their_own_fields(
        self, server: Loopback, tmp_path: Path
    ) -> None:
        image = tmp_path / "in.png"
        image.write_bytes(picture(1))
        settings = self.settings(
            server,
            "pipeline.name=inpaint",
            f"+provider.options.reference_image='{image}'",
            "+provider.options.lora={name: ink, path: /loras/ink, scale: 0.5}",
        )
        params = self.params(image=str(image), mask=str(image), strength=0.4, seed=0)
        assert ask(settings, params, 2).pictures
        (seen,) = server.calls()
        assert [name for name, _ in seen.files] == ["image", "mask_image", "reference_image"]
        fields = dict(seen.fields)
        assert (fields["strength"], fields["seed"], fields["n"]) == ("0.4", "0", "2")
        assert json.loads(fields["lora"]) == {"name": "ink", "path": "/loras/ink", "scale": 0.5}

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("true_cfg_scale", 4.0),
            ("flow_shift", 3.1),
            ("generator_device", "cpu"),
            ("layers", 4),
            ("use_system_prompt", "dynamic"),
            ("extra_params", {"a": [1, 2]}),
            ("output_compression", 80),
        ],
    )
    def test_options_go_on_the_wire(self, server: Loopback, option: str, value: Any) -> None:
        text = json.dumps(value).replace('"', "")
        settings = self.settings(server, f"+provider.options.{option}={text}")
        params = self.params(output_format="jpeg" if option == "output_compression" else None)
        asked = ask(settings, params)
        assert asked.pictures, asked.fault
        assert server.calls()[0].json[option] == value

    def test_a_server_without_keys(
        self, server: ImagesServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv(KEY_VARIABLES[0])
        monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-you")
        server.open_door = True
        provider = make_provider(self.settings(server))
        provider.check_ready()
        assert ask(self.settings(server), self.params()).pictures
        assert "authorization" not in server.calls()[0].headers


class TestSglang(ProviderContract):
    provider = "openai_compatible"
    server_type = SglangServer
    variables = KEY_VARIABLES
    key_required = False
    overrides = ("model=openai_compatible/sglang",)
    cost_basis = "unknown"
    returns_urls = False
    tells_credit = False
    tells_refusals = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1280x720",
        "quality": "exact",
        "background": "transparent",
        "output_format": "png",
        "negative_prompt": "rain",
        "seed": 7,
        "steps": 20,
        "guidance_scale": 4.5,
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "1001x1001"}

    def test_every_image_has_its_own_seed(self, server: Loopback) -> None:
        asked = self.ask(server, n=3, seed=5)
        assert [found.seed_sent for found in asked.pictures] == [5, 6, 7]
        assert server.calls()[0].json["seed"] == 5

    def test_options_of_edits(self, server: Loopback, tmp_path: Path) -> None:
        image = tmp_path / "in.png"
        image.write_bytes(picture(1))
        settings = self.settings(
            server,
            "pipeline.name=img2img",
            "+provider.options.cache_dit_params={rdt: 0.2}",
            "+provider.options.enable_teacache=true",
            f"+provider.options.images=['{image}']",
        )
        assert ask(settings, self.params(image=str(image))).pictures
        fields = dict(server.calls()[0].fields)
        assert json.loads(fields["cache_dit_params"]) == {"rdt": 0.2}
        assert fields["enable_teacache"] == "true"
        assert [name for name, _ in server.calls()[0].files] == ["image[]", "image[]"]

    def test_what_it_would_ignore_is_refused(self) -> None:
        address = self._any_address()
        capabilities = make_provider(self.settings(None, *address)).capabilities()
        assert "inpaint" not in capabilities.pipelines
        assert "style" not in capabilities.params
        with pytest.raises(RequestError, match="flow_shift"):
            make_provider(
                self.settings(
                    None, *address, "pipeline.name=img2img", "+provider.options.flow_shift=1"
                )
            )


def gateway(server: Loopback, *overrides: str) -> VariantSettings:
    """A server that nothing is known of."""
    return at_address(variant("provider=openai_compatible", *overrides), server.base_url)


def test_any_server(tmp_path: Path) -> None:
    image = tmp_path / "in.png"
    image.write_bytes(picture(1))
    with GatewayServer() as server:
        server.open_door = True
        made = gateway(server, "model.name=house-9", "+provider.extra_body.x_house_style=wet ink")
        params = {"prompt": "a fox", "style": "vivid", "quality": "best"}
        asked = ask(made, TestSglang().params(**params))
        assert asked.answer is not None, asked.fault
        assert asked.answer.params_sent == {
            "model": "house-9",
            "n": 1,
            "style": "vivid",
            "quality": "best",
            "response_format": "b64_json",
            "x_house_style": "wet ink",
        }
        edit = gateway(server, "pipeline.name=inpaint")
        files = {"image": str(image), "mask": str(image)}
        assert ask(edit, TestSglang().params(**files, strength=0.3)).pictures
        assert [name for name, _ in server.calls()[1].files] == ["image", "mask"]
    assert server.problems == []


def test_results_with_an_address_on_the_server() -> None:
    with GatewayServer() as server:
        server.open_door = True
        server.host_file("1.png", picture(1))
        server.script(lambda _: web.json_response({"data": [{"url": "/files/1.png"}]}))
        (found,) = ask(gateway(server), TestSglang().params()).pictures
    assert found.data == picture(1)


@pytest.mark.parametrize("preset", ["any", "vllm_omni", "sglang"])
def test_presets(preset: str) -> None:
    settings = variant("provider=openai_compatible", f"model=openai_compatible/{preset}")
    with pytest.raises(RequestError, match=r"provider\.base_url"):
        make_provider(settings)
    provider = make_provider(at_address(settings, "https://127.0.0.1"))
    assert provider.check(TestSglang().params(size="1024x1024")) == []
    assert "seed" in provider.capabilities().params
