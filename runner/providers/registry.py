"""The closed registry of providers, and the entry points of third parties.

Nothing is imported until a provider is chosen: importing this module imports no SDK.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from runner.providers.contract import Provider
from runner.settings.errors import PrerequisiteError, RequestError, did_you_mean, listed
from runner.settings.schema import VariantSettings

ENTRY_POINT_GROUP = "runner.providers"

BUILT_IN: dict[str, str] = {
    "azure_openai": "runner.providers.azure_openai:AzureOpenAIProvider",
    "bedrock_nova_canvas": "runner.providers.bedrock_nova_canvas:BedrockNovaCanvasProvider",
    "bedrock_stability": "runner.providers.bedrock_stability:BedrockStabilityProvider",
    "bedrock_stable_diffusion": (
        "runner.providers.bedrock_stable_diffusion:BedrockStableDiffusionProvider"
    ),
    "bedrock_titan": "runner.providers.bedrock_titan:BedrockTitanProvider",
    "black_forest_labs": "runner.providers.black_forest_labs:BlackForestLabsProvider",
    "diffusers": "runner.providers.local.diffusers:DiffusersProvider",
    "fake": "runner.providers.fake:FakeProvider",
    "fal": "runner.providers.fal:FalProvider",
    "google_ai_studio": "runner.providers.google_ai_studio:GoogleAIStudioProvider",
    "gpustack": "runner.providers.gpustack:GPUStackProvider",
    "gpustack_llama_box": "runner.providers.gpustack_llama_box:GPUStackLlamaBoxProvider",
    "huggingface": "runner.providers.huggingface:HuggingFaceProvider",
    "leonardo": "runner.providers.leonardo:LeonardoProvider",
    "litellm_proxy": "runner.providers.litellm_proxy:LiteLLMProxyProvider",
    "nscale": "runner.providers.nscale:NscaleProvider",
    "openai": "runner.providers.openai:OpenAIProvider",
    "openai_compatible": "runner.providers.openai_compatible:OpenAICompatibleProvider",
    "replicate": "runner.providers.replicate:ReplicateProvider",
    "recraft": "runner.providers.recraft:RecraftProvider",
    "stability": "runner.providers.stability:StabilityProvider",
    "together": "runner.providers.together:TogetherProvider",
    "vertex": "runner.providers.vertex:VertexProvider",
    "xinference": "runner.providers.xinference:XinferenceProvider",
}
"""Name to ``module:class``."""


def provider_names() -> list[str]:
    """Every name that ``provider.name`` may hold, third parties' included."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})


def provider_class(name: str) -> type[Provider]:
    """Look a provider up by name.

    Raises:
        RequestError: No such name.
        PrerequisiteError: A third party's entry point does not import.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        found: type[Provider] = getattr(import_module(module), attribute)
        return found
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == name:
            try:
                loaded: type[Provider] = point.load()
            except ImportError as error:
                raise PrerequisiteError(
                    f"provider {name!r}: its package does not import: {error}"
                ) from error
            return loaded
    names = provider_names()
    raise RequestError(
        f"provider.name={name!r}: no such provider{did_you_mean(name, names)}; "
        f"known: {listed(names)}"
    )


def make_provider(settings: VariantSettings) -> Provider:
    """The provider object of one variant.

    Raises:
        RequestError: No such provider, or its options are wrong.
        PrerequisiteError: Its package does not import.
    """
    return provider_class(settings.provider.name).make(settings)
