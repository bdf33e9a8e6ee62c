"""A model that you deployed to a Vertex AI endpoint yourself, asked by ``predict``.

What an instance holds depends on the container. The names here are those of Model Garden's
diffusers containers; ``model.traits.params`` changes them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlencode

from pydantic import Field

from runner.providers.contract import (
    UNKNOWN_PRICE,
    Answer,
    Call,
    Capabilities,
    Missing,
    Param,
    Picture,
    Price,
    asked,
)
from runner.providers.net import Http, Inputs, grey_mask
from runner.providers.net.inputs import NEEDED, file_problems
from runner.providers.net.outputs import Found, take_all, text
from runner.providers.net.payload import encode_base64
from runner.providers.net.sdk import Authorize, Built, Ready, built_by
from runner.providers.sizes import Sizes, size_problems
from runner.settings.cell import FILE_KEYS, CellParams, Json, PipelineKind
from runner.settings.load import validate
from runner.settings.schema import Section, VariantSettings

Predict = Callable[[Any], Awaitable[object]]
"""Sends a ``PredictRequest``."""

BASE64_FIELDS = ("bytesBase64Encoded", "b64_json", "image", "image_base64", "output")
"""Where a prediction that is an object may hold its picture."""


class EndpointTraits(Section):
    """What your container takes: data in ``conf/model/``."""

    api: Literal["endpoint"]
    sizes: Sizes = Field(description="sizes")
    pipelines: tuple[PipelineKind, ...] = Field(
        ("text2img",), description="kinds of pipeline that the deployed model has"
    )
    params: dict[str, str] = Field(description="cell-level key to its name in an instance")
    max_n: int = Field(1, ge=1, description="most instances of one request")


class EndpointImages:
    """A deployed model for one variant.

    Args:
        settings: The variant; ``model.name`` is the endpoint's number or whole resource name.
        http: Its base URL, credentials and downloads.

    Raises:
        RequestError: The traits are wrong.
    """

    def __init__(self, settings: VariantSettings, http: Http) -> None:
        self.http = http
        self.pipeline = settings.pipeline.name
        self.traits = validate(EndpointTraits, settings.model.traits, "model.traits")
        self._endpoint = settings.model.name
        self._extra_body = settings.provider.extra_body
        self._inputs = Inputs(http)

    def capabilities(self) -> Capabilities:
        """By the traits."""
        names, files = self.traits.params, NEEDED[self.pipeline]
        params = {
            key: Param(native=native)
            for key, native in names.items()
            if key not in FILE_KEYS or key in files
        }
        if "size" in names:
            params["size"] = Param(native="width,height", note=self.traits.sizes.describe())
        if "seed" in names:
            params["seed"] = Param(native=names["seed"], minimum=0, maximum=2**53 - 1)
        return Capabilities(
            pipelines=frozenset(self.traits.pipelines),
            params={"prompt": Param(native=names.get("prompt", "prompt")), **params},
            max_images_per_call=self.traits.max_n,
            seed_per_image=True,
        )

    def identity(self) -> dict[str, Json]:
        """Nothing but the model: an endpoint has no options of its own."""
        return {}

    def check(self, params: CellParams) -> Sequence[str]:
        """Sizes and input files."""
        problems = size_problems(self._size, params, self._endpoint)
        return [*problems, *file_problems(self.pipeline, params)]

    def estimate(self, params: CellParams) -> Price:
        """Unknown: a deployed model is paid by the hour."""
        return UNKNOWN_PRICE

    def _size(self, params: CellParams) -> tuple[int, int] | None:
        if params.size is None:
            return None
        chosen = self.traits.sizes.pixels(params.size)
        return (chosen.width, chosen.height) if chosen.width and chosen.height else None

    def fields(self, call: Call) -> dict[str, Json]:
        """What every instance holds besides prompt, seed and files."""
        names = self.traits.params
        left_out = {"prompt", "seed", "size", *FILE_KEYS}
        fields: dict[str, Json] = {
            names[key]: value
            for key, value in asked(call.params).items()
            if key in names and key not in left_out
        }
        if size := self._size(call.params):
            fields["width"], fields["height"] = size
        return fields

    async def _files(self, params: CellParams) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for key in NEEDED[self.pipeline]:
            path = getattr(params, key)
            if path is not None and key in self.traits.params:
                image = (
                    await self._inputs.mask(path, grey_mask)
                    if key == "mask"
                    else await self._inputs.read(path, f"pipeline.{key}")
                )
                found[self.traits.params[key]] = encode_base64(image.data)
        return found

    async def generate(self, predict: Predict, call: Call, project: str, location: str) -> Answer:
        """Make the pictures of one call: an instance for each.

        Args:
            predict: Of :func:`make_predict`.
            call: What is asked.
            project: Of the endpoint.
            location: Of the endpoint.

        Raises:
            ProviderError: Refused, or any other fault, already classified.
        """
        fields, files = self.fields(call), await self._files(call.params)
        names, seeds = self.traits.params, [cell.image_seed for cell in call.cells]
        instances = [
            {
                names.get("prompt", "prompt"): call.params.prompt,
                **fields,
                **files,
                **({names["seed"]: seed} if "seed" in names and seed is not None else {}),
            }
            for seed in seeds
        ]
        name = self._endpoint
        if "/" not in name:
            name = f"projects/{project}/locations/{location}/endpoints/{name}"
        built = await built_by(predict(_request(name, instances, self._extra_body)))
        reply = await built.send(self.http)
        found = reply.json()
        predictions = found.get("predictions")
        listed = [_found(item) for item in predictions] if isinstance(predictions, list) else []
        sent: dict[str, Json] = {"endpoint": name, "instances": len(instances), **fields}
        if "seed" in names and seeds[0] is not None:
            sent[names["seed"]] = seeds[0]
        outputs = await take_all(self.http, call, listed)
        return Answer(
            outputs=tuple(
                replace(output, seed_sent=seed)
                if isinstance(output, Picture) and "seed" in names
                else output
                for output, seed in zip(outputs, seeds, strict=True)
            ),
            params_sent=sent,
            model_reported=text(found.get("modelDisplayName"))
            or text(found.get("deployedModelId")),
            request_id=reply.request_id,
        )


def make_predict(http: Http, authorize: Authorize) -> Predict:
    """``predict`` of google-cloud-aiplatform on the provider's own session.

    Args:
        http: The provider's base URL and session.
        authorize: Makes the headers with the token.
    """
    from google.auth.aio.credentials import AnonymousCredentials
    from google.cloud.aiplatform_v1.services.prediction_service.transports.rest_asyncio import (
        AsyncPredictionServiceRestTransport,
    )

    class Session:
        """Takes the place of the transport's own, which would retry and follow redirects.

        It also adds the token.
        """

        async def post(
            self,
            url: str,
            *,
            headers: Mapping[str, str],
            params: Sequence[tuple[str, str]],
            data: str,
            **_: Any,
        ) -> None:
            url = f"{url}?{urlencode(params)}" if params else url
            raise Ready(Built.of("POST", url, headers, data.encode(), authorize))

    transport = AsyncPredictionServiceRestTransport(
        host=http.base.text,
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # see Session
    )
    transport._session = Session()  # type: ignore[assignment]
    predict: Predict = transport.predict
    return predict


def _request(endpoint: str, instances: list[dict[str, Json]], parameters: Mapping[str, Any]) -> Any:
    from google.cloud.aiplatform_v1.types import PredictRequest

    request = PredictRequest(endpoint=endpoint)
    request.instances.extend(instances)
    if parameters:
        request.parameters = dict(parameters)
    return request


def _found(prediction: object) -> Found | Missing:
    if isinstance(prediction, str):
        return Found(prediction)
    if isinstance(prediction, Mapping):
        held = (text(prediction.get(name)) for name in BASE64_FIELDS)
        return Found(next((source for source in held if source), None))
    return Missing(outcome="failed", kind="no_image", message="no image in the answer")
