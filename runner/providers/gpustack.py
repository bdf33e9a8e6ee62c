"""GPUStack 2 and later, whose image models run on SGLang or vLLM-Omni.

``python -m runner provider=gpustack provider.base_url=https://HOST/v1 model.name=qwen-image …``

What an engine takes is data of ``conf/model/gpustack/``. Neither of them tells its progress; for
GPUStack up to 0.7, which does, see ``gpustack_llama_box``.
"""

from __future__ import annotations

from typing import ClassVar

from runner.providers.net import FaultRules
from runner.providers.openai_family.images import ImagesApi
from runner.providers.openai_family.options import DiffusionOptions
from runner.providers.openai_family.provider import ImagesProvider, sdk_http
from runner.settings.load import validate
from runner.settings.schema import VariantSettings

KEY_VARIABLES = ("GPUSTACK_API_KEY",)
RULES = FaultRules(gone_words=("model not found", "model mismatch"))


class GPUStackProvider(ImagesProvider):
    """GPUStack's gateway before the engine's own Images API."""

    name: ClassVar[str] = "gpustack"
    options_type = DiffusionOptions

    def __init__(self, settings: VariantSettings) -> None:
        options = validate(DiffusionOptions, settings.provider.options, "provider.options")
        http = sdk_http(settings, base_url=None, variables=KEY_VARIABLES, rules=RULES)
        super().__init__(settings, http, ImagesApi(settings, http, options))
