"""The contract for ``provider=bedrock_nova_canvas``, and what only Nova Canvas has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from runner.providers.contract import Missing
from runner.providers.registry import make_provider
from runner.settings.errors import RequestError
from runner.settings.schema import VariantSettings
from tests.contract.aws import VARIABLES, aws_environment
from tests.contract.bedrock_files import FROM_IMAGE, Files, b64, checked, problems
from tests.contract.suite import ProviderContract
from tests.servers.bedrock_amazon import NovaCanvasServer
from tests.servers.loopback import Loopback, picture

__all__ = ["aws_environment"]


class TestBedrockNovaCanvas(ProviderContract):
    provider = "bedrock_nova_canvas"
    server_type = NovaCanvasServer
    variables = VARIABLES
    families = ("bedrock_nova_canvas",)
    count_field = "numberOfImages"
    cost_basis = "price_book"
    returns_urls = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "1280x720",
        "quality": "premium",
        "style": "PHOTOREALISM",
        "negative_prompt": "rain",
        "guidance_scale": 7.5,
        "seed": 7,
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "300x300"}
    operations: ClassVar[Mapping[str, str]] = {
        "try_on": f"{FROM_IMAGE} provider.options.task=VIRTUAL_TRY_ON prompt= "
        "provider.options.try_on.reference_image=OTHER "
        "provider.options.try_on.garment_class=UPPER_BODY",
    }

    # ------------------------------------------------------------------ bodies

    def test_styles(self, server: Loopback) -> None:
        asked = checked(
            self.settings(server), self.params(style="MAXIMALISM", size="16:9", seed=0), 5
        )
        body = server.calls()[0].json
        assert body["textToImageParams"] == {"text": "a red lighthouse", "style": "MAXIMALISM"}
        assert body["imageGenerationConfig"] == {
            "numberOfImages": 5,
            "width": 1280,
            "height": 720,
            "seed": 0,
        }
        assert len({found.data for found in asked.pictures}) == 5

    def test_edits_take_their_size_from_the_image(self, server: Loopback, tmp_path: Path) -> None:
        files = Files(tmp_path)
        for task, name in (
            ("INPAINTING", "inPaintingParams"),
            ("OUTPAINTING", "outPaintingParams"),
        ):
            settings = self.settings(
                server, "pipeline.name=inpaint", f"+provider.options.task={task}"
            )
            assert "size" not in make_provider(settings).capabilities().params
            params = self.params(image=files.image, mask=files.mask(), quality="premium")
            checked(settings, params)
            assert set(server.calls()[-1].json[name]) == {"image", "maskImage", "text"}
        assert [mask.getpixel((0, 0)) for mask in server.repainted] == [255, 255]

    def test_variation_has_no_levels(self, server: Loopback, tmp_path: Path) -> None:
        settings = self.settings(server, "pipeline.name=img2img")
        taken = make_provider(settings).capabilities().params
        assert {"quality", "style"} & set(taken) == set()
        checked(settings, self.params(image=Files(tmp_path).image, strength=0, size="512x512"))
        assert server.calls()[0].json["imageVariationParams"]["similarityStrength"] == 1

    @pytest.mark.parametrize("task", ["COLOR_GUIDED_GENERATION", "BACKGROUND_REMOVAL"])
    def test_the_other_tasks(self, server: Loopback, tmp_path: Path, task: str) -> None:
        more = ["+provider.options.colors=['#ff8800']"] if task.startswith("COLOR") else []
        settings = self.settings(
            server, "pipeline.name=img2img", f"+provider.options.task={task}", *more
        )
        checked(settings, self.params(image=Files(tmp_path).image))
        body = server.calls()[0].json
        assert body["taskType"] == task
        assert ("imageGenerationConfig" in body) == bool(more)

    def test_conditioning(self, server: Loopback, tmp_path: Path) -> None:
        settings = self.settings(
            server, "pipeline.name=controlnet", "+provider.options.control_mode=CANNY_EDGE"
        )
        params = self.params(
            control_image=Files(tmp_path).image, control_scale=1, style="DESIGN_SKETCH"
        )
        checked(settings, params)
        section = server.calls()[0].json["textToImageParams"]
        assert (section["controlMode"], section["controlStrength"]) == ("CANNY_EDGE", 1)

    # ------------------------------------------------------------------ virtual try-on

    def try_on(self, server: Loopback | None, files: Files, *overrides: str) -> VariantSettings:
        jacket = files.write("jacket.jpg", picture(9, "JPEG", (50, 50)))
        return self.settings(
            server,
            "+provider.options.task=VIRTUAL_TRY_ON",
            f"+provider.options.try_on.reference_image='{jacket}'",
            *overrides,
        )

    def test_try_on_by_garment(self, server: Loopback, tmp_path: Path) -> None:
        files = Files(tmp_path)
        settings = self.try_on(
            server,
            files,
            "pipeline.name=img2img",
            "+provider.options.try_on.garment_class=UPPER_BODY",
            "+provider.options.try_on.styling.tucking=TUCKED",
            "+provider.options.try_on.preserve_face='ON'",
            "+provider.options.try_on.merge_style=SEAMLESS",
            "+provider.options.return_mask=true",
        )
        assert "prompt" not in make_provider(settings).capabilities().params
        asked = checked(settings, self.params(prompt="", image=files.image, seed=7), 2)
        body = server.calls()[0].json
        fields = body["virtualTryOnParams"]
        assert fields.pop("sourceImage") == b64(files.image)
        assert fields.pop("referenceImage")
        assert fields == {
            "maskType": "GARMENT",
            "garmentBasedMask": {
                "garmentClass": "UPPER_BODY",
                "garmentStyling": {"tuckingStyle": "TUCKED"},
            },
            "maskExclusions": {"preserveFace": "ON"},
            "mergeStyle": "SEAMLESS",
            "returnMask": True,
        }
        assert body["imageGenerationConfig"] == {"numberOfImages": 2, "seed": 7}
        assert [sorted(found.extras) for found in asked.pictures] == [["mask.png"], []]

    def test_try_on_by_mask_and_by_words(self, server: Loopback, tmp_path: Path) -> None:
        files = Files(tmp_path)
        settings = self.try_on(server, files, "pipeline.name=inpaint")
        checked(settings, self.params(prompt="", image=files.image, mask=files.mask()))
        assert server.calls()[0].json["virtualTryOnParams"]["maskType"] == "IMAGE"
        assert server.repainted[0].getpixel((0, 0)) == 255
        settings = self.try_on(
            server, files, "pipeline.name=img2img", "+provider.options.try_on.mask_prompt=the sofa"
        )
        checked(settings, self.params(prompt="", image=files.image))
        fields = server.calls()[1].json["virtualTryOnParams"]
        assert fields["promptBasedMask"] == {"maskPrompt": "the sofa"}

    def test_try_on_that_does_not_say_where(self, tmp_path: Path) -> None:
        files = Files(tmp_path)
        settings = self.try_on(None, files, "pipeline.name=img2img")
        (problem,) = problems(settings, image=files.image)
        assert "garment_class" in problem
        with pytest.raises(RequestError, match="reference_image"):
            make_provider(
                self.settings(
                    None, "pipeline.name=img2img", "+provider.options.task=VIRTUAL_TRY_ON"
                )
            )

    # ------------------------------------------------------------------ answers, money

    def test_input_is_refused_by_status_and_output_by_words(self, server: Loopback) -> None:
        fault = self.ask(server, "refused").fault
        assert fault is not None
        assert fault.kind == "refused"
        answer = self.ask(server, "partial", n=2).answer
        assert answer is not None
        missing = answer.outputs[1]
        assert isinstance(missing, Missing)
        assert missing.outcome == "refused"

    def test_a_model_that_is_gone_names_its_replacement(self, server: Loopback) -> None:
        fault = self.ask(server, "gone").fault
        assert fault is not None
        assert "bedrock_stability" in fault.message

    def test_prices(self) -> None:
        provider = make_provider(self.settings(None))
        for size, quality, usd in (
            (None, None, 0.04),
            ("1024x1024", "premium", 0.06),
            ("2048x2048", None, 0.06),
            ("1280x720", "premium", 0.06),
            ("1280x1024", "premium", 0.08),
        ):
            price = provider.estimate(self.params(size=size, quality=quality))
            assert (price.low_usd, price.high_usd) == (usd, usd), size

    def test_a_retired_model_is_warned_of_and_sent_all_the_same(
        self, server: Loopback, tmp_path: Path
    ) -> None:
        done = self.run(server, tmp_path / "run", "style.native=PHOTOREALISM")
        assert done.returncode == 0, done.stderr
        assert "2026-09-30" in done.stdout + done.stderr
        body = server.calls()[0].json
        assert body["textToImageParams"]["style"] == "PHOTOREALISM"
        # Without one the API takes the same seed every time.
        assert "seed" in body["imageGenerationConfig"]
