"""vLLM-Omni and SGLang diffusion, as their sources of 0.30.0 and 0.5.23 have it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from tests.servers.images import Fault, ImagesServer, clear_is_painted
from tests.servers.loopback import Seen, Situation, Upload
from tests.servers.strict import Anything, Bool, Int, Number, OneOf, Shape, Text

SIZE = r"\d+x\d+"
INT64 = 2**63 - 1


def detail(status: int, text: Any) -> Fault:
    """An error as FastAPI words it."""
    return status, {"detail": text}


class VllmOmniServer(ImagesServer):
    """``vllm serve Qwen/Qwen-Image --omni --api-key …``."""

    served = "Qwen/Qwen-Image"
    mask_field = "mask_image"
    file_fields: ClassVar[frozenset[str]] = frozenset(
        {"image", "image[]", "mask_image", "reference_image"}
    )
    _common: ClassVar[dict[str, Any]] = {
        "prompt": Text(),
        "model": Text(),
        "n": Int(1, 10),
        "size": Text(pattern=SIZE),
        "output_format": OneOf(("png", "jpeg", "webp")),
        "output_compression": Int(0, 100),
        "negative_prompt": Text(),
        "num_inference_steps": Int(1, 200),
        "guidance_scale": Number(0, 20),
        "true_cfg_scale": Number(0, 20),
        "seed": Int(-INT64, INT64),
        "generator_device": Text(),
        "layers": Int(2, 10),
        "system_prompt": Text(),
        "bot_task": Text(),
    }
    generate: ClassVar[Shape] = Shape(
        {
            **_common,
            "response_format": OneOf(("b64_json", "file")),
            "flow_shift": Number(-1e9, 1e9),
            "use_system_prompt": OneOf(("dynamic", "en_vanilla", "en_recaption", "custom")),
            "extra_params": Anything(),
            "lora": Shape({"name": Text(), "path": Text(), "scale": Number(-9, 9)}),
        },
        required=("prompt",),
    )
    edit: ClassVar[Shape] = Shape(
        {
            **_common,
            "response_format": OneOf(("b64_json",)),
            "strength": Number(0, 1),
            "guidance_scale_2": Number(0, 100),
            "resolution": OneOf(("640", "1024")),
            "sys_type": Text(),
            "lora": Text(),
        },
        required=("prompt",),
    )
    faults: ClassVar[Mapping[str, Fault]] = {
        "auth": (401, {"error": "Unauthorized"}),
        "gone": detail(400, "Model mismatch: request specifies 'x' but server is running 'y'."),
        "rate_limit": detail(429, "Too many requests"),
        "invalid": detail(422, [{"loc": ["body", "n"], "msg": "Input should be at most 10"}]),
        "server_error": detail(500, "Image generation failed: CUDA error"),
    }

    def rules(self, fields: Mapping[str, Any], seen: Seen) -> Iterator[str]:
        """The served model's name, and LoRAs that a form carries as JSON text."""
        if fields.get("model", self.served) != self.served:
            yield f"model mismatch: {fields['model']}"
        if seen.fields and "lora" in fields and not isinstance(json.loads(fields["lora"]), dict):
            yield f"lora is {fields['lora']!r}"

    def body(self, items: list[dict[str, Any]], fields: Mapping[str, Any]) -> dict[str, Any]:
        """With what was used."""
        used = {"output_format": fields.get("output_format", "png"), "size": "1024x1024"}
        return {**super().body(items, fields), **used, "metrics": None}


class SglangServer(ImagesServer):
    """``sglang serve --model-path Qwen/Qwen-Image``: edits look at no mask and no style."""

    file_fields: ClassVar[frozenset[str]] = frozenset({"image", "image[]"})
    _common: ClassVar[dict[str, Any]] = {
        "prompt": Text(),
        "model": Text(),
        "n": Int(1, 10),
        "size": Text(pattern=SIZE),
        "response_format": OneOf(("b64_json",)),
        "quality": OneOf(("auto", "exact", "lossless", "high", "extra-high")),
        "background": OneOf(("auto", "opaque", "transparent")),
        "output_format": OneOf(("png", "jpeg", "webp")),
        "output_compression": Int(0, 100),
        "output_quality": OneOf(("default", "maximum", "high", "medium", "low")),
        "negative_prompt": Text(),
        "num_inference_steps": Int(1, 10_000),
        "guidance_scale": Number(0, 1000),
        "true_cfg_scale": Number(0, 1000),
        "seed": Int(0, INT64),
        "generator_device": Text(),
        "task_type": Text(),
        "enhance_prompt": Bool(),
        "enable_teacache": Bool(),
        "enable_cache_dit": Bool(),
        "enable_upscaling": Bool(),
        "upscaling_model_path": Text(),
        "upscaling_scale": Int(1, 8),
    }
    generate: ClassVar[Shape] = Shape(
        {
            **_common,
            "flow_shift": Number(-1e9, 1e9),
            "max_sequence_length": Int(1, 10_000),
            "diffusers_kwargs": Anything(),
            "cache_dit_params": Anything(),
            "progressive_mode": Text(),
            "progressive_levels": Int(1, 10),
            "progressive_delta": Number(0, 10),
        },
        required=("prompt", "response_format"),
    )
    edit: ClassVar[Shape] = Shape(
        {**_common, "cache_dit_params": Text()}, required=("prompt", "response_format")
    )
    faults: ClassVar[Mapping[str, Fault]] = {
        "auth": (401, {"error": "Unauthorized"}),
        "gone": detail(404, "Not Found"),
        "rate_limit": detail(429, "Too many requests"),
        "invalid": detail(400, "size must be formatted as positive WIDTHxHEIGHT"),
        "server_error": detail(502, "worker failed"),
    }

    def item(self, situation: Situation, fields: Mapping[str, Any]) -> dict[str, Any]:
        """With the path on the server and the prompt, as the server repeats them."""
        extra = {"file_path": f"/outputs/{self.made}.jpg", "revised_prompt": fields["prompt"]}
        found = super().item(situation, fields)
        return {"url": None, **extra, **found}

    def body(self, items: list[dict[str, Any]], fields: Mapping[str, Any]) -> dict[str, Any]:
        """With the id and chat-style usage."""
        usage = {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}
        more = {"id": f"sglang-{self.made}", "inference_time_s": 1.5, "peak_memory_mb": None}
        return {**super().body(items, fields), **more, "usage": {**usage, "image_count": 1}}


class GatewayServer(ImagesServer):
    """A gateway that nothing is known of; it goes by alpha, as OpenAI does."""

    generate: ClassVar[Shape] = Shape(
        {
            "prompt": Text(),
            "model": Text(),
            "n": Int(1, 10),
            "response_format": OneOf(("b64_json",)),
            "style": Text(),
            "quality": Text(),
            "x_house_style": Text(),
        }
    )
    edit: ClassVar[Shape] = Shape(
        {
            "prompt": Text(),
            "model": Text(),
            "n": Int(1, 10),
            "response_format": OneOf(("b64_json",)),
            "strength": Number(0, 1),
        }
    )
    faults: ClassVar[Mapping[str, Fault]] = {}

    def painted(self, mask: Upload) -> Any:
        """What is clear."""
        return clear_is_painted(mask)
