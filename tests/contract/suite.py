"""What every network provider keeps, whatever its API: inherit :class:`ProviderContract`.

::

    class TestExample(ProviderContract):
        provider = "example"
        server_type = ExampleServer
        variables = ("EXAMPLE_KEY",)
        samples = {"size": "1024x1024", "seed": 7}

runs the provider's real SDK over a real socket against the server. A trait of the API that is
truly different is declared by a class attribute; a test is overridden only with a reason.
"""

from __future__ import annotations

import asyncio
import json
import math
import shlex
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runner.images import BadImage, inspect
from runner.providers.contract import Call, Missing
from runner.providers.registry import make_provider
from runner.settings.cell import CELL_KEYS, FILE_KEYS, CellParams, Json
from runner.settings.confdir import conf_dir
from runner.settings.errors import PrerequisiteError, RequestError
from runner.settings.schema import VariantSettings
from tests.contract.hostile import HostileAnswers
from tests.contract.support import (
    Asked,
    Listening,
    ask,
    ask_all,
    ask_open,
    attach,
    in_request,
    opened,
)
from tests.servers.loopback import RETRY_AFTER_S, Loopback, Situation, picture


class ProviderContract(HostileAnswers):
    """Inherited tests; see :class:`~tests.contract.machinery.Machinery` for what to declare."""

    # ------------------------------------------------------------------ good answers

    def test_text_to_image(self, server: Loopback) -> None:
        asked = self.ask(server)
        assert asked.answer is not None, asked.fault
        assert len(asked.pictures) == 1
        inspect(asked.pictures[0].data)
        assert len(server.calls()) == 1
        assert any(in_request(seen, b"a red lighthouse") for seen in server.requests)
        assert "prompt" not in asked.answer.params_sent
        model = self.settings(server).model.name
        (seen,) = server.calls()
        assert model in seen.path or in_request(seen, model.encode())
        if self.sends_request_id:
            assert asked.answer.request_id

    def test_cost(self, server: Loopback) -> None:
        answer = self.ask(server, **self.samples).answer
        assert answer is not None
        assert answer.cost_basis == self.cost_basis
        if self.cost_basis in {"unknown", "free"}:
            assert not answer.cost_usd
        else:
            assert answer.cost_usd is not None
            assert answer.cost_usd > 0

    def test_eight_images_take_the_fewest_calls(self, server: Loopback) -> None:
        params = self.params()
        all_asked = ask_all(self.settings(server), params, 8)
        pictures = [picture.data for asked in all_asked for picture in asked.pictures]
        assert len(set(pictures)) == 8
        most = make_provider(self.settings(server)).images_per_call(params)
        assert len(server.calls()) == math.ceil(8 / most)
        if self.count_field is not None:
            sent = [asked.answer.params_sent[self.count_field] for asked in all_asked]
            assert sum(sent) == 8

    def test_n_is_always_sent(self, server: Loopback) -> None:
        answer = self.ask(server).answer
        assert answer is not None
        if self.count_field is not None:
            assert answer.params_sent[self.count_field] == 1

    def test_every_key_that_is_taken_is_sent(self, server: Loopback) -> None:
        taken = make_provider(self.settings(server)).capabilities().params
        assert set(taken) <= set(CELL_KEYS)
        wanted = set(taken) - FILE_KEYS - {"prompt"}
        assert wanted == set(self.samples), "samples must cover what the model takes"
        for key in sorted(wanted):
            asked = self.ask(server, **{key: self.samples[key]})
            assert asked.answer is not None, f"{key}: {asked.fault}"
            assert taken[key].native.partition(",")[0] in asked.answer.params_sent, key

    def test_seed(self, server: Loopback) -> None:
        taken = make_provider(self.settings(server)).capabilities().params.get("seed")
        # Where 0 means random it cannot be asked for; elsewhere it is a value.
        for seed in (int(taken.minimum or 0), 7) if taken else (7,):
            asked = self.ask(server, seed=seed)
            assert [found.seed_sent for found in asked.pictures] == [seed if taken else None]
        if not taken:
            body = server.calls()[-1].body
            assert b"seed" not in body

    def test_extra_body_is_passed_through(self, server: Loopback) -> None:
        settings = self.settings(server, "+provider.extra_body.x_extra=17")
        ask(settings, self.params())
        assert any(b"x_extra" in seen.body for seen in server.requests)
        server.problems[:] = [text for text in server.problems if "x_extra" not in text]

    # ------------------------------------------------------------------ input images

    def test_img2img(self, server: Loopback, tmp_path: Path) -> None:
        settings = self._pipeline(server, "img2img")
        image = tmp_path / "in.png"
        image.write_bytes(picture(3, size=self.input_size))
        asked = ask(settings, self._with_files(settings, image=str(image)))
        assert len(asked.pictures) == 1, asked.fault
        assert any(in_request(seen, image.read_bytes()) for seen in server.requests)

    def test_inpaint_repaints_the_white_part(self, server: Loopback, tmp_path: Path) -> None:
        settings = self._pipeline(server, "inpaint")
        image, mask = tmp_path / "in.png", tmp_path / "mask.png"
        image.write_bytes(picture(3, size=self.input_size))
        drawn = Image.new("L", self.input_size, 0)
        drawn.paste(255, (0, 0, 20, 48))
        drawn.save(mask)
        params = self._with_files(settings, image=str(image), mask=str(mask))
        asked = ask(settings, params)
        assert len(asked.pictures) == 1, asked.fault
        assert [found.tobytes() for found in server.repainted] == [drawn.tobytes()]

    def _pipeline(self, server: Loopback, kind: str) -> VariantSettings:
        settings = self.settings(server, f"pipeline.name={kind}")
        if kind not in make_provider(self.settings(server)).capabilities().pipelines:
            pytest.skip(f"{self.provider} has no {kind}")
        return settings

    def _with_files(self, settings: VariantSettings, **files: str) -> CellParams:
        taken = make_provider(settings).capabilities().params
        assert set(files) <= set(taken)
        more = {"strength": 0.5} if "strength" in taken else {}
        return self.params(**files, **more)

    # ------------------------------------------------------------------ refusals, gaps, faults

    def test_refusal(self, server: Loopback) -> None:
        if not self.tells_refusals:
            pytest.skip("this API has no safety system")
        asked = self.ask(server, "refused")
        if asked.fault is not None:
            assert asked.fault.kind == "refused", asked.fault.message
            assert asked.fault.message
        else:
            assert asked.answer is not None
            assert [output.outcome for output in asked.answer.outputs] == ["refused"]

    def test_partial_answer_keeps_what_came(self, server: Loopback) -> None:
        most = make_provider(self.settings(server)).images_per_call(self.params())
        if most == 1:
            pytest.skip("one image per call")
        asked = self.ask(server, "partial", n=2)
        assert asked.answer is not None, asked.fault
        assert len(asked.answer.outputs) == 2
        assert len(asked.pictures) == 1

    @pytest.mark.parametrize("situation", ["empty", "text"])
    def test_no_image_is_never_done(self, server: Loopback, situation: Situation) -> None:
        asked = self.ask(server, situation, n=1)
        assert asked.pictures == []
        if asked.answer is not None:
            assert all(isinstance(output, Missing) for output in asked.answer.outputs)
            assert asked.answer.cost_basis != "free"

    def test_rate_limit_is_obeyed(self, server: Loopback) -> None:
        fault = self.ask(server, "rate_limit").fault
        assert fault is not None
        assert fault.kind == "rate_limit"
        assert fault.retry_after == pytest.approx(RETRY_AFTER_S, abs=1.5)
        assert len(server.calls()) == 1, "only the engine retries"

    def test_empty_account_stops_the_provider(self, server: Loopback) -> None:
        if not self.tells_credit:
            pytest.skip("this API does not tell")
        fault = self.ask(server, "no_credit").fault
        assert fault is not None
        assert fault.kind == "auth"

    def test_wrong_key_stops_the_provider(self, server: Loopback) -> None:
        if not self.variables:
            pytest.skip("this server has no keys")
        fault = self.ask(server, "auth").fault
        assert fault is not None
        assert fault.kind == "auth"
        assert self.variables[0] in fault.message

    def test_invalid_request_ends_the_cell(self, server: Loopback) -> None:
        fault = self.ask(server, "invalid").fault
        assert fault is not None
        assert fault.kind == "invalid"

    def test_missing_model_stops_the_provider(self, server: Loopback) -> None:
        fault = self.ask(server, "gone").fault
        assert fault is not None
        assert fault.kind == "gone"

    def test_retired_model_names_its_replacement(self, server: Loopback) -> None:
        if self.retired is None:
            pytest.skip("no retired model")
        settings = self.settings(server, f"model={self.retired}")
        asked = ask(settings, self.params())
        assert asked.fault is not None
        assert asked.fault.kind == "gone"
        assert str(settings.model.lifecycle.replacement) in asked.fault.message

    def test_server_error_is_worth_another_try(self, server: Loopback) -> None:
        fault = self.ask(server, "server_error").fault
        assert fault is not None
        assert fault.kind == "transient"
        assert len(server.calls()) == 1, "only the engine retries"

    @pytest.mark.parametrize("situation", ["html", "bad_json", "cut", "reset", "hang"])
    def test_a_lost_answer_is_ambiguous(self, server: Loopback, situation: Situation) -> None:
        server.script(situation)
        seconds = 0.5 if situation == "hang" else 5
        asked = ask(self.settings(server, f"limits.timeout_s={seconds}"), self.params())
        assert asked.fault is not None
        assert asked.fault.kind == "ambiguous", asked.fault.message
        assert server.key not in asked.text()
        assert len(server.calls()) == 1

    def test_no_connection_is_transient(self, server: Loopback) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            address = f"provider.base_url=http://127.0.0.1:{taken.getsockname()[1]}"
            asked = ask(self.settings(None, address), self.params())
        assert asked.fault is not None
        assert asked.fault.kind == "transient", asked.fault.message

    @pytest.mark.parametrize("situation", ["bad_base64", "not_an_image", "truncated"])
    def test_bad_bytes_are_found(self, server: Loopback, situation: Situation) -> None:
        asked = self.ask(server, situation)
        assert asked.answer is not None, asked.fault
        for found in asked.pictures:
            with pytest.raises(BadImage):
                inspect(found.data)

    def test_mislabelled_bytes_are_kept_as_they_are(self, server: Loopback) -> None:
        asked = self.ask(server, "mislabelled")
        assert len(asked.pictures) == 1, asked.fault
        assert inspect(asked.pictures[0].data).info.mime == "image/jpeg"

    # ------------------------------------------------------------------ jobs

    def test_a_job_is_journalled_before_the_first_poll(self, server: Loopback) -> None:
        self._needs_jobs()

        class Full(Listening):
            async def note(self, call: Call, fact: Mapping[str, Json]) -> None:
                raise OSError("no space left on device")

        asked = ask(self.settings(server), self.params(), listener=Full())
        assert asked.fault is not None
        assert len(server.calls()) == 1
        assert all(server.is_call(seen) for seen in server.requests), "polled before the note"

    def test_a_job_is_taken_up_again_and_not_sent_again(self, server: Loopback) -> None:
        self._needs_jobs()
        first = self.ask(server, **self.samples)
        assert first.answer is not None, first.fault
        (fact,) = first.listener.notes
        written = json.dumps(fact)
        assert server.key not in written
        again = attach(self.settings(server), self.params(**self.samples), json.loads(written))
        assert again.answer is not None, again.fault
        assert [found.data for found in again.pictures] == [found.data for found in first.pictures]
        assert replace(again.answer, outputs=()) == replace(first.answer, outputs=())
        assert [p.seed_sent for p in again.pictures] == [p.seed_sent for p in first.pictures]
        assert again.listener.notes == []
        assert len(server.calls()) == 1, "sent again"

    def test_a_fact_without_a_job_is_ambiguous(self, server: Loopback) -> None:
        self._needs_jobs()
        fault = attach(self.settings(server), self.params(), {}).fault
        assert fault is not None
        assert fault.kind == "ambiguous"
        assert server.requests == []

    @pytest.mark.parametrize("situation", ["odd_status", "slow_start", "busy_polls"])
    def test_trouble_while_polling_is_waited_out(
        self, server: Loopback, situation: Situation
    ) -> None:
        self._needs_jobs()
        asked = self.ask(server, situation)
        assert len(asked.pictures) == 1, asked.fault
        assert len(server.calls()) == 1

    @pytest.mark.parametrize("situation", ["stuck", "lost_job"])
    def test_a_job_without_end_is_ambiguous_and_named(
        self, server: Loopback, situation: Situation
    ) -> None:
        self._needs_jobs()
        server.script(situation)
        asked = ask(self.settings(server, "limits.timeout_s=0.5"), self.params())
        assert asked.fault is not None
        assert asked.fault.kind == "ambiguous", asked.fault.message
        (fact,) = asked.listener.notes
        assert str(fact["job"]) in asked.fault.message
        assert len(server.calls()) == 1

    def test_a_job_that_failed_is_never_done(self, server: Loopback) -> None:
        self._needs_jobs()
        asked = self.ask(server, "job_failed")
        assert asked.pictures == []
        assert asked.fault is not None
        assert asked.fault.kind == "transient", asked.fault.message
        assert asked.fault.request_id == asked.listener.notes[0]["job"]

    def test_a_refusal_while_polling(self, server: Loopback) -> None:
        self._needs_jobs()
        if not self.refuses_late:
            pytest.skip("this API refuses at once")
        asked = self.ask(server, "refused_late")
        if asked.fault is not None:
            assert asked.fault.kind == "refused", asked.fault.message
        else:
            assert asked.answer is not None
            (output,) = asked.answer.outputs
            assert isinstance(output, Missing)
            assert output.outcome == "refused"

    def _needs_jobs(self) -> None:
        if not self.has_jobs:
            pytest.skip("this API answers at once")

    # ------------------------------------------------------------------ keys and addresses

    def test_missing_key_is_one_sentence(self, server: Loopback, monkeypatch: Any) -> None:
        if not self.variables or not self.key_required:
            pytest.skip("this server works without a key")
        monkeypatch.delenv(self.variables[0])
        with pytest.raises(PrerequisiteError) as caught:
            make_provider(self.settings(server)).check_ready()
        assert self.variables[0] in str(caught.value)
        assert "\n" not in str(caught.value)
        assert server.requests == []

    def test_key_from_another_variable(self, server: Loopback, monkeypatch: Any) -> None:
        if not self.variables:
            pytest.skip("this server has no keys")
        monkeypatch.delenv(self.variables[0])
        monkeypatch.setenv("MY_OWN_VARIABLE", server.credential)
        asked = ask(self.settings(server, "provider.api_key_env=MY_OWN_VARIABLE"), self.params())
        assert len(asked.pictures) == 1, asked.fault

    def test_every_alias_of_the_key_works(self, server: Loopback, monkeypatch: Any) -> None:
        for name in self.variables:
            monkeypatch.delenv(self.variables[0], raising=False)
            monkeypatch.setenv(name, server.credential)
            assert len(ask(self.settings(server), self.params()).pictures) == 1
            monkeypatch.delenv(name)

    def test_redirects_are_not_followed(self, server: Loopback) -> None:
        fault = self.ask(server, "redirect").fault
        assert fault is not None
        assert fault.kind == "gone"
        assert "redirect" in fault.message

    def test_plain_http_is_for_loopback(self) -> None:
        for address in ("http://example.com/v1", "https://u:p@example.com", "ftp://x", "nonsense"):
            with pytest.raises(RequestError, match="base_url"):
                make_provider(self.settings(None, f"'provider.base_url={address}'"))

    def test_results_that_are_urls(self, server: Loopback) -> None:
        if not self.returns_urls:
            pytest.skip("this API answers with bytes")
        asked = self.ask(server, "url")
        assert len(asked.pictures) == 1, asked.answer
        assert asked.pictures[0].data in server.files.values()

    @pytest.mark.parametrize("situation", ["private_url", "lost_url"])
    def test_results_that_cannot_be_fetched(self, server: Loopback, situation: Situation) -> None:
        if not self.returns_urls:
            pytest.skip("this API answers with bytes")
        asked = self.ask(server, situation)
        assert asked.answer is not None
        (missing,) = asked.answer.outputs
        assert isinstance(missing, Missing)
        assert missing.kind == "result_lost"
        if situation == "private_url":
            assert "private" in missing.message

    # ------------------------------------------------------------------ the whole way

    def test_command_line(self, server: Loopback, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        done = self.run(server, folder, "n=2")
        assert done.returncode == 0, done.stdout + done.stderr
        lines = (folder / "images" / "metadata.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert [row["provider"] for row in rows] == [self.provider] * 2
        assert {row["cost_basis"] for row in rows} == {self.cost_basis}
        for row in rows:
            data = (folder / "images" / row["file_name"]).read_bytes()
            assert inspect(data).sha256 == row["sha256"]
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["counts"]["done"] == 2
        assert server.key not in done.stdout + done.stderr
        for path in (found for found in folder.rglob("*") if found.is_file()):
            assert server.key.encode() not in path.read_bytes(), path

    def test_operations_on_the_command_line(self, server: Loopback, tmp_path: Path) -> None:
        if not self.operations:
            pytest.skip("declares none")
        files = {name: tmp_path / f"{name.lower()}.png" for name in ("IMAGE", "MASK", "OTHER")}
        for at, path in enumerate(files.values()):
            path.write_bytes(picture(at, size=self.input_size))

        def run(name: str) -> None:
            text = self.operations[name]
            for word, path in files.items():
                text = text.replace(word, str(path))
            done = self.run(server, tmp_path / name, *shlex.split(text))
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
            manifest = json.loads((tmp_path / name / "manifest.json").read_text())
            assert manifest["counts"]["done"] == 1, name

        with ThreadPoolExecutor(len(self.operations)) as pool:
            list(pool.map(run, self.operations))

    def test_unsupported_key_is_refused_with_what_is_taken(
        self, server: Loopback, tmp_path: Path
    ) -> None:
        taken = make_provider(self.settings(server)).capabilities().params
        wrong = {"steps": 5, "guidance_scale": 2, "negative_prompt": "rain", "background": "auto"}
        key = next((key for key in wrong if key not in taken), None)
        if key is None:
            pytest.skip("this model takes everything")
        done = self.run(server, tmp_path / "run", f"{key}={wrong[key]}")
        assert done.returncode == 2, done.stdout + done.stderr
        assert f"does not take {key}" in done.stderr
        assert "prompt" in done.stderr
        assert server.requests == []
        done = self.run(server, tmp_path / "run", f"{key}={wrong[key]}", "unsupported=drop")
        assert done.returncode == 0, done.stdout + done.stderr
        row = json.loads((tmp_path / "run" / "images" / "metadata.jsonl").read_text())
        assert row["params_dropped"] == [key]

    # ------------------------------------------------------------------ settings

    def test_unknown_option_names_the_nearest(self) -> None:
        provider = make_provider(self.settings(None, *self._any_address()))
        if provider.options_type is None:
            pytest.skip("no options")
        name = next(iter(provider.options_type.model_fields))
        with pytest.raises(RequestError, match=f"did you mean '{name}'"):
            make_provider(self.settings(None, *self._any_address(), f"+provider.options.{name}x=1"))

    def test_every_option_has_a_help_text(self) -> None:
        provider = make_provider(self.settings(None, *self._any_address()))
        fields = provider.options_type.model_fields if provider.options_type else {}
        assert [name for name, found in fields.items() if not found.description] == []

    def _any_address(self) -> tuple[str, ...]:
        return ("provider.base_url=https://127.0.0.1",)

    def test_values_that_only_the_provider_can_judge(self) -> None:
        provider = make_provider(self.settings(None, *self._any_address()))
        for key, value in self.bad_samples.items():
            problems = provider.check(replace(self.params(), **{key: value}))
            assert len(problems) == 1, key
            assert key in problems[0]
            assert str(value) in problems[0]
        assert list(provider.check(self.params(**self.samples))) == []

    def test_every_model_file(self) -> None:
        for family in self.families:
            for path in sorted(Path(self.config_dir or conf_dir(), "model", family).glob("*.yaml")):
                settings = self.settings(None, *self._any_address(), f"model={family}/{path.stem}")
                provider = make_provider(settings)
                price = provider.estimate(self.params())
                assert (price.low_usd is None) == (price.basis == "unknown")
                if settings.model.lifecycle.state != "active":
                    assert settings.model.lifecycle.source

    def test_cancel_leaves_the_provider_usable(self, server: Loopback) -> None:
        async def run() -> Asked:
            async with opened(self.settings(server)) as provider:
                server.script("hang")
                task = asyncio.create_task(ask_open(provider, self.params()))
                while not server.calls():
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                return await ask_open(provider, self.params())

        assert len(asyncio.run(run()).pictures) == 1
