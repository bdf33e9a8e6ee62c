"""Schedulers by the names that people know them by: ``euler_a``, ``dpm++2m_karras``.

Families are of two kinds. Those that predict noise and those that follow a flow take different
schedulers, and one of the wrong kind paints garbage without a word, so it is refused.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.providers.local.signature import source_of
from runner.settings.errors import PrerequisiteError, RequestError, did_you_mean, listed

if TYPE_CHECKING:
    from diffusers import SchedulerMixin

_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
_OF_NOISE: Mapping[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpm++2m": ("DPMSolverMultistepScheduler", {}),
    "dpm++2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++2s": ("DPMSolverSinglestepScheduler", {}),
    "dpm++sde": ("DPMSolverSDEScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "sa_solver": ("SASolverScheduler", {}),
    "ipndm": ("IPNDMScheduler", {}),
}
_OF_FLOW: Mapping[str, tuple[str, dict[str, Any]]] = {
    "flow_euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "flow_heun": ("FlowMatchHeunDiscreteScheduler", {}),
    "flow_lcm": ("FlowMatchLCMScheduler", {}),
    "dpm++2m": ("DPMSolverMultistepScheduler", _FLOW),
    "unipc": ("UniPCMultistepScheduler", _FLOW),
    "deis": ("DEISMultistepScheduler", _FLOW),
}
_SUFFIXES = {
    "karras": "use_karras_sigmas",
    "exponential": "use_exponential_sigmas",
    "beta": "use_beta_sigmas",
}
_NEEDS = {
    "DPMSolverSDEScheduler": "torchsde",
    "LMSDiscreteScheduler": "scipy",
    "use_beta_sigmas": "scipy",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """A scheduler by its class.

    Attributes:
        class_name: Class of diffusers.
        options: What is set besides the model's own config.
    """

    class_name: str
    options: Mapping[str, Any]

    def make(self, current: SchedulerMixin) -> SchedulerMixin:
        """The scheduler, with the noise schedule of the model's own one."""
        import diffusers

        made: SchedulerMixin = getattr(diffusers, self.class_name).from_config(
            current.config, **self.options
        )
        return made


def choose(name: str, own_class: str) -> Choice:
    """Find a scheduler.

    Args:
        name: As the user wrote it; ``_karras``, ``_exponential``, ``_beta`` and ``_trailing`` at
            its end change the spacing of its steps.
        own_class: Class of the model's own scheduler, which tells what kind the model is of.

    Raises:
        RequestError: Unknown, of the wrong kind, or without that spacing.
        PrerequisiteError: A package is missing.
    """
    flow = own_class.startswith("FlowMatch")
    table, other = (_OF_FLOW, _OF_NOISE) if flow else (_OF_NOISE, _OF_FLOW)
    plain, options = _spacing(name.lower().strip().replace(" ", "_"))
    known = {_squeezed(key): key for key in table}
    key = known.get(_squeezed(plain), known.get(_squeezed(f"flow_{plain}")))
    where = f"provider.options.scheduler={name}"
    if key is None:
        if _squeezed(plain) in {_squeezed(each) for each in other}:
            kind = "follows a flow" if flow else "predicts noise"
            raise RequestError(
                f"{where}: this model {kind} and takes {listed(list(table))}; that one would paint "
                "garbage"
            )
        raise RequestError(
            f"{where}: no such scheduler{did_you_mean(plain, table)}; choose from "
            f"{listed(list(table))}, some of them with {', '.join(f'_{s}' for s in _SUFFIXES)}"
        )
    class_name, own = table[key]
    text = source_of("schedulers", class_name)
    for option in options:
        if option not in text:
            raise RequestError(f"{where}: {key} has no {option.split('_')[1]} sigmas")
    for needed in (class_name, *options):
        package = _NEEDS.get(needed)
        if package and importlib.util.find_spec(package) is None:
            raise PrerequisiteError(
                f"{where} needs the package {package}, which is not installed: pip install "
                f"{package}"
            )
    return Choice(class_name, {**own, **options})


def _spacing(name: str) -> tuple[str, dict[str, Any]]:
    stem, _, suffix = name.rpartition("_")
    if stem and suffix in _SUFFIXES:
        return stem, {_SUFFIXES[suffix]: True}
    if stem and suffix == "trailing":
        return stem, {"timestep_spacing": "trailing"}
    return name, {}


def _squeezed(name: str) -> str:
    return name.replace("_", "").replace("-", "").replace(" ", "")
