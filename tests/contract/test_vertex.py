"""The contract for ``provider=vertex``: Gemini, Imagen and an endpoint of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from runner.providers.contract import Missing
from runner.providers.google_family import credentials
from runner.providers.registry import make_provider
from runner.settings.errors import PrerequisiteError, RequestError
from tests.contract.machinery import Machinery
from tests.contract.suite import ProviderContract
from tests.contract.support import ask, in_request
from tests.servers.loopback import Loopback, picture
from tests.servers.vertex import PROJECT, VertexServer, private_key

VARIABLES = ("GOOGLE_APPLICATION_CREDENTIALS",)
IMG2IMG = "pipeline.name=img2img"
OUR_PROJECT = f"provider.options.project={PROJECT}"


class Vertex(Machinery):
    """What all kinds of model share."""

    provider = "vertex"
    server_type = VertexServer
    variables = VARIABLES
    count_field: ClassVar[str | None] = None
    returns_urls = False
    tells_credit = False

    @pytest.fixture(autouse=True)
    def _elsewhere(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Not on a machine of Google's, whatever this one is."""
        monkeypatch.setattr(credentials, "_PRODUCT_NAME", tmp_path / "none")
        names = ("CLOUDSDK_CONFIG", "GOOGLE_CLOUD_LOCATION", *credentials.PROJECT_VARIABLES)
        for name in names:
            monkeypatch.delenv(name, raising=False)


class TestVertexGemini(Vertex, ProviderContract):
    overrides: ClassVar[tuple[str, ...]] = (OUR_PROJECT,)
    families = ("vertex",)
    retired = "vertex/gemini_3_pro_image_preview"
    samples: ClassVar[Mapping[str, Any]] = {"size": "16:9@4K", "seed": 7, "output_format": "jpeg"}
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "16:9@512"}

    def test_what_only_vertex_takes(self, server: Loopback) -> None:
        settings = self.settings(server, "+provider.options.labels={team: art}")
        assert ask(settings, self.params(output_format="jpeg")).pictures
        (seen,) = server.calls()
        assert seen.path == (
            f"/v1beta1/projects/{PROJECT}/locations/global/publishers/google/models/"
            "gemini-nano-banana-2.1:generateContent"
        )
        assert seen.json["labels"] == {"team": "art"}
        image = seen.json["generationConfig"]["imageConfig"]
        assert image["imageOutputOptions"] == {"mimeType": "image/jpeg"}

    # ------------------------------------------------------------------ credentials

    def test_one_token_serves_many_calls(self, server: Loopback) -> None:
        assert self.ask(server).pictures
        tokens = [seen for seen in server.requests if seen.path == "/token"]
        assert len(tokens) == 1

    def test_a_login_of_gcloud(
        self, server: VertexServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Its file lies where gcloud writes it, and it is billed to its quota project."""
        monkeypatch.delenv(VARIABLES[0])
        monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
        held = {
            "type": "authorized_user",
            "client_id": "client-1",
            "client_secret": "secret-of-the-client",
            "refresh_token": "refresh-1",
            "token_uri": server.base_url + "/token",
            "quota_project_id": "quota-1",
        }
        monkeypatch.setattr(
            "google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", held["token_uri"]
        )
        (tmp_path / "application_default_credentials.json").write_text(json.dumps(held))
        assert self.ask(server).pictures
        (seen,) = server.calls()
        assert seen.headers["x-goog-user-project"] == "quota-1"
        assert b"secret-of-the-client" not in seen.body

    def test_the_project_of_the_file(self, server: Loopback) -> None:
        asked = ask(self.settings(server, "provider.options.project=null"), self.params())
        assert "project-of-the-file" in server.calls()[0].path
        assert asked.fault is not None
        server.problems.clear()

    def test_no_project_is_one_sentence(self, server: VertexServer) -> None:
        held = json.loads(Path(server.credential).read_text())
        server.write({name: value for name, value in held.items() if name != "project_id"})
        # The property writes the file anew, so it is read once more here.
        path = server.write({**held, "project_id": ""})
        settings = self.settings(server, "provider.options.project=null")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(VARIABLES[0], path)
            with pytest.raises(PrerequisiteError, match="project") as caught:
                make_provider(settings).check_ready()
        assert "GOOGLE_CLOUD_PROJECT" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("content", ["", "no json", "[]", '{"a": 1}'])
    def test_a_file_that_is_none(
        self, server: Loopback, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str
    ) -> None:
        path = tmp_path / "file.json"
        path.write_text(content)
        for value in (str(path), str(tmp_path / "missing"), "sk-a-key-instead-of-a-path"):
            monkeypatch.setenv(VARIABLES[0], value)
            with pytest.raises(PrerequisiteError, match=VARIABLES[0]) as caught:
                make_provider(self.settings(server)).check_ready()
            assert value not in str(caught.value)

    @pytest.mark.parametrize(("status", "kind"), [(400, "auth"), (503, "transient")])
    def test_no_token(self, server: VertexServer, status: int, kind: str) -> None:
        server.token_status = status
        fault = self.ask(server).fault
        assert fault is not None
        assert fault.kind == kind, fault.message
        assert server.calls() == []

    def test_the_files_content_is_nowhere(self, server: Loopback, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        done = self.run(server, folder)
        assert done.returncode == 0, done.stdout + done.stderr
        secret = private_key().splitlines()[3]
        assert secret not in done.stdout + done.stderr
        for path in (found for found in folder.rglob("*") if found.is_file()):
            assert secret.encode() not in path.read_bytes(), path

    def test_missing_project_ends_the_command(
        self, server: VertexServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held = json.loads(Path(server.credential).read_text())
        monkeypatch.setattr(type(server), "credential", server.write({**held, "project_id": ""}))
        done = self.run(server, tmp_path / "run", "provider.options.project=null")
        assert done.returncode == 3, done.stdout + done.stderr
        assert "Google Cloud project" in done.stderr
        assert server.requests == []

    @pytest.mark.parametrize(
        ("location", "host"),
        [
            ("global", "https://aiplatform.googleapis.com"),
            ("eu", "https://aiplatform.eu.rep.googleapis.com"),
            ("europe-west4", "https://europe-west4-aiplatform.googleapis.com"),
        ],
    )
    def test_host_of_a_location(self, location: str, host: str) -> None:
        provider = make_provider(self.settings(None, f"provider.options.location={location}"))
        assert provider.http.base.text == host

    def test_identity_leaves_out_who_is_billed(self) -> None:
        one = make_provider(self.settings(None)).identity()
        other = self.settings(
            None, "provider.options.project=other", "provider.options.location=eu"
        )
        assert make_provider(other).identity() == one

    def test_options_of_another_api(self) -> None:
        with pytest.raises(RequestError, match=r"provider\.options\.imagen"):
            make_provider(self.settings(None, "+provider.options.imagen.task=upscale"))


class TestVertexImagen(Vertex, ProviderContract):
    overrides: ClassVar[tuple[str, ...]] = (
        OUR_PROJECT,
        "model=vertex/imagen_4",
        "+provider.options.imagen.add_watermark=false",
    )
    retired = "vertex/imagen_3"
    count_field = "sampleCount"
    cost_basis = "unknown"
    sends_request_id = False
    samples: ClassVar[Mapping[str, Any]] = {
        "size": "16:9@2K",
        "seed": 7,
        "output_format": "jpeg",
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "2:1"}

    def test_a_seed_needs_no_watermark_and_no_rewriting(self, server: Loopback) -> None:
        asked = self.ask(server, n=3, seed=5)
        assert len(asked.pictures) == 3, asked.fault
        parameters = server.calls()[0].json["parameters"]
        assert parameters["addWatermark"] is False
        assert parameters["enhancePrompt"] is False
        assert {found.seed_sent for found in asked.pictures} == {5}
        for option in ("imagen.add_watermark=true", "imagen.enhance_prompt=true"):
            settings = self.settings(None, f"++provider.options.{option}")
            assert "seed" not in make_provider(settings).capabilities().params

    def test_every_option_of_a_picture(self, server: Loopback) -> None:
        options = {
            "person_generation": "allow_adult",
            "safety_filter_level": "block_only_high",
            "language": "en",
            "compression_quality": 80,
            "enhance_prompt": True,
        }
        settings = self.settings(
            server, *(f"+provider.options.imagen.{k}={v}" for k, v in options.items())
        )
        assert ask(settings, self.params(output_format="jpeg")).pictures
        assert server.calls()[0].json["parameters"] == {
            "sampleCount": 1,
            "personGeneration": "ALLOW_ADULT",
            "safetySetting": "BLOCK_ONLY_HIGH",
            "language": "en",
            "enhancePrompt": True,
            "addWatermark": False,
            "includeRaiReason": True,
            "outputOptions": {"mimeType": "image/jpeg", "compressionQuality": 80},
        }

    def test_an_empty_answer_is_a_refusal(self, server: Loopback) -> None:
        answer = self.ask(server, "empty", n=2).answer
        assert answer is not None
        assert [output.outcome for output in answer.outputs] == ["refused"] * 2

    def test_the_reason_of_the_filter(self, server: Loopback) -> None:
        answer = self.ask(server, "refused").answer
        assert answer is not None
        (missing,) = answer.outputs
        assert isinstance(missing, Missing)
        assert missing.message == "Not this. 58061214"


class TestVertexImagenEdits(Vertex):
    """Further operations of the same API, whose faults are tested above."""

    overrides: ClassVar[tuple[str, ...]] = (OUR_PROJECT, "model=vertex/imagen_3_capability")

    @pytest.fixture
    def image(self, tmp_path: Path) -> Path:
        path = tmp_path / "given.png"
        path.write_bytes(picture(3, size=(64, 48)))
        return path

    def test_an_edit_without_a_mask(self, server: Loopback, image: Path) -> None:
        settings = self.settings(server, "pipeline.name=img2img")
        params = self.params(
            image=str(image), negative_prompt="rain", guidance_scale=15.0, steps=32
        )
        asked = ask(settings, params, 2)
        assert len(asked.pictures) == 2, asked.fault
        (seen,) = server.calls()
        assert seen.json["parameters"] == {
            "sampleCount": 2,
            "negativePrompt": "rain",
            "guidanceScale": 15.0,
            "editMode": "EDIT_MODE_DEFAULT",
            "editConfig": {"baseSteps": 32},
            "includeRaiReason": True,
        }
        assert in_request(seen, image.read_bytes())

    def mask(self, tmp_path: Path) -> Path:
        path = tmp_path / "mask.png"
        drawn = Image.new("L", (64, 48), 0)
        drawn.paste(255, (0, 0, 20, 48))
        drawn.putpixel((40, 20), 200)
        drawn.save(path)
        return path

    @pytest.mark.parametrize(
        ("task", "mode"),
        [
            (None, "INPAINT_INSERTION"),
            ("remove", "INPAINT_REMOVAL"),
            ("outpaint", "OUTPAINT"),
            ("background", "BGSWAP"),
            ("product", "PRODUCT_IMAGE"),
        ],
    )
    def test_tasks_with_a_mask(
        self, server: Loopback, tmp_path: Path, image: Path, task: str | None, mode: str
    ) -> None:
        chosen = [f"+provider.options.imagen.task={task}"] if task else []
        settings = self.settings(
            server,
            "pipeline.name=inpaint",
            "+provider.options.imagen.mask_dilation=0.05",
            *chosen,
        )
        asked = ask(settings, self.params(image=str(image), mask=str(self.mask(tmp_path))), 2)
        assert len(asked.pictures) == 2, asked.fault
        (seen,) = server.calls()
        assert seen.json["parameters"]["editMode"] == f"EDIT_MODE_{mode}"
        raw, mask = seen.json["instances"][0]["referenceImages"]
        assert raw["referenceType"] == "REFERENCE_TYPE_RAW"
        assert mask["maskImageConfig"] == {"maskMode": "MASK_MODE_USER_PROVIDED", "dilation": 0.05}
        (repainted,) = server.repainted
        assert set(repainted.tobytes()) == {0, 255}, "the mask is pure black and white"
        assert repainted.getpixel((40, 20)) == 255

    def test_a_mask_that_the_model_finds(self, server: Loopback, image: Path) -> None:
        settings = self.settings(
            server,
            "pipeline.name=inpaint",
            "+provider.options.imagen.mask_mode=semantic",
            "+provider.options.imagen.mask_classes=[7,8]",
        )
        params = self.params(image=str(image))
        assert list(make_provider(settings).check(params)) == []
        assert ask(settings, params).pictures
        mask = server.calls()[0].json["instances"][0]["referenceImages"][1]
        assert mask["maskImageConfig"] == {"maskMode": "MASK_MODE_SEMANTIC", "maskClasses": [7, 8]}
        assert "referenceImage" not in mask

    def test_a_control_image(self, server: Loopback, image: Path) -> None:
        settings = self.settings(
            server, "pipeline.name=controlnet", "+provider.options.imagen.control_type=scribble"
        )
        params = self.params(control_image=str(image), size="16:9")
        assert ask(settings, params).pictures
        (seen,) = server.calls()
        (reference,) = seen.json["instances"][0]["referenceImages"]
        assert reference["controlImageConfig"] == {
            "controlType": "CONTROL_TYPE_SCRIBBLE",
            "computeControl": False,
        }
        assert in_request(seen, image.read_bytes())
        assert seen.json["parameters"]["aspectRatio"] == "16:9"

    @pytest.mark.parametrize(
        ("overrides", "word"),
        [
            (("+provider.options.imagen.task=upscale", IMG2IMG), "task=upscale"),
            (("+provider.options.imagen.task=remove", IMG2IMG), "task=remove"),
            (("+provider.options.imagen.mask_mode=background", IMG2IMG), "mask_mode"),
            (("+provider.options.imagen.upscale_factor=x4", IMG2IMG), "upscale_factor"),
            (
                ("pipeline.name=inpaint", "+provider.options.imagen.mask_classes=[1]"),
                "mask_classes",
            ),
        ],
    )
    def test_options_that_do_not_fit(self, overrides: tuple[str, ...], word: str) -> None:
        with pytest.raises(RequestError, match=word) as caught:
            make_provider(self.settings(None, *overrides))
        assert len(caught.value.problems) == 1

    def test_upscaling(self, server: Loopback, image: Path) -> None:
        settings = self.settings(
            server,
            "model=vertex/imagen_4_upscale",
            "pipeline.name=img2img",
            "+provider.options.imagen.task=upscale",
            "+provider.options.imagen.upscale_factor=x4",
            "+provider.options.imagen.image_preservation_factor=0.5",
        )
        asked = ask(settings, self.params(image=str(image)))
        assert len(asked.pictures) == 1, asked.fault
        (seen,) = server.calls()
        assert seen.json["parameters"]["upscaleConfig"] == {
            "upscaleFactor": "x4",
            "imagePreservationFactor": 0.5,
        }
        assert in_request(seen, image.read_bytes())


class TestVertexEndpoint(Vertex, ProviderContract):
    overrides: ClassVar[tuple[str, ...]] = (
        OUR_PROJECT,
        "model=vertex/endpoint",
        "model.name='4242'",
        "+model.traits.params.seed=seed",
        "+model.traits.max_n=2",
    )
    cost_basis = "unknown"
    sends_request_id = False
    tells_refusals = False
    count_field = "instances"
    samples: ClassVar[Mapping[str, Any]] = {
        "negative_prompt": "rain",
        "size": "768x512",
        "steps": 25,
        "guidance_scale": 7.5,
        "seed": 7,
    }
    bad_samples: ClassVar[Mapping[str, Any]] = {"size": "770x512"}

    def test_an_instance_for_each_picture_with_its_own_seed(self, server: Loopback) -> None:
        asked = self.ask(server, n=2, seed=7, size="768x512", guidance_scale=7.5)
        assert [found.seed_sent for found in asked.pictures] == [7, 8]
        (seen,) = server.calls()
        assert seen.path == f"/v1/projects/{PROJECT}/locations/global/endpoints/4242:predict"
        shared = {"prompt": "a red lighthouse", "width": 768, "height": 512, "guidance_scale": 7.5}
        assert seen.json == {"instances": [{**shared, "seed": 7}, {**shared, "seed": 8}]}

    def test_a_whole_resource_name(self, server: Loopback) -> None:
        name = f"projects/{PROJECT}/locations/global/endpoints/77"
        assert ask(self.settings(server, f"model.name={name}"), self.params()).pictures
        assert server.calls()[0].path == f"/v1/{name}:predict"
