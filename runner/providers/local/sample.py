"""The call itself: cells become batches, batches become pixels.

Everything here runs on the one thread that computes.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.providers.contract import ProviderError
from runner.providers.local.device import free_memory
from runner.providers.local.items import Item, Sample, gathered, shape_of
from runner.providers.local.memo import PromptMemo
from runner.providers.local.notices import NOTICES
from runner.providers.local.refine import PASSED_ON, LoadedRefiner
from runner.providers.local.vae_memo import remember_pictures
from runner.settings.cell import Json

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


class StoppedError(Exception):
    """The call was cancelled; raised between two steps, and the pipeline stays usable."""


Progress = Callable[[int, int], None]
"""Told after each step: steps done, steps in all."""


class Sampler:
    """Calls one loaded pipeline.

    Args:
        pipe: The pipeline, on its device.
        batch_size: Images that are computed together. Fixed, because it is the one thing about a
            batch that changes pixels: a smaller batch is filled up with copies. Images that do
            not fit into the memory like that are computed in halves of it.
        memo_bytes: Most memory for remembered prompts.
        constants: Arguments of every call that are no plain values.
        refiner: Does the last steps.
    """

    def __init__(
        self,
        pipe: DiffusionPipeline,
        batch_size: int,
        memo_bytes: int,
        constants: Mapping[str, Any],
        refiner: LoadedRefiner | None = None,
    ) -> None:
        self.pipe = pipe
        self._refiner = refiner
        self._constants = constants
        self.batch_size = batch_size
        self._fitting: dict[object, int] = {}
        # Where encoded prompts are not all of one length.
        encode = getattr(pipe, "encode_prompt", None)
        self._lengths = getattr(encode, "lengths", lambda prompt, negative_prompt: None)
        self._generators: list[torch.Generator] = []
        self._pipes = [pipe] if refiner is None else [pipe, refiner.pipe]
        self._memos: list[PromptMemo] = []
        for each in self._pipes:
            if hasattr(each, "encode_prompt"):
                each.encode_prompt = PromptMemo(each.encode_prompt, memo_bytes)
                self._memos.append(each.encode_prompt)
            self._feed_scheduler(each)
        remember_pictures(getattr(pipe, "vae", None))
        self._reports_steps = "callback_on_step_end" in inspect.signature(pipe.__call__).parameters

    def run(
        self,
        items: Sequence[Item],
        arguments: Mapping[str, Json],
        stop: threading.Event,
        progress: Progress,
        batch_size: int | None = None,
    ) -> tuple[list[Sample | Exception], int]:
        """Compute images, all of them in batches of one size.

        An image that the pipeline fails on takes its neighbours with it; they are then computed
        once more, each for itself.

        Args:
            items: What to compute.
            arguments: Further arguments of the pipeline's call, shared by all.
            stop: Set from another thread to end the call after the step in progress.
            progress: Told after each step, on this thread.
            batch_size: Another size of the batches than :attr:`batch_size`.

        Returns:
            One sample per item, or what the pipeline raised for it; and the size of the batches:
            smaller than asked, from now on, if the memory does not suffice for images of this size.

        Raises:
            StoppedError: ``stop`` was set.
            ProviderError: Not even one image fits into the memory.
            Exception: What the pipeline raised, if it raised it for every image.
        """
        shape, asked = shape_of(items[0], arguments), batch_size or self.batch_size
        while True:
            size = min(asked, self._fitting.get(shape, asked))
            try:
                made = self._batches(items, size, arguments, stop, progress)
            except Exception as error:
                self._clean_up()
                if not _is_out_of_memory(error):
                    raise
            else:
                return [_said(one, size, asked) for one in made], size
            # Outside of the handler, whose traceback holds the tensors of the failed batch.
            free_memory()
            if size == 1:
                raise ProviderError(
                    "invalid",
                    "one image does not fit into the memory: take a smaller size, "
                    "device.dtype=bfloat16, or a larger device",
                    code="out_of_memory",
                )
            self._fitting[shape] = size // 2

    def _batches(
        self,
        items: Sequence[Item],
        size: int,
        arguments: Mapping[str, Json],
        stop: threading.Event,
        progress: Progress,
    ) -> list[Sample | Exception]:
        groups: dict[tuple[object, ...], list[int]] = {}
        for slot, item in enumerate(items):
            key = (item.group(), self._lengths(item.prompt, item.negative_prompt))
            groups.setdefault(key, []).append(slot)
        batches = [
            slots[start : start + size]
            for slots in groups.values()
            for start in range(0, len(slots), size)
        ]
        samples: dict[int, Sample | Exception] = {}
        for number, slots in enumerate(batches):

            def tell(done: int, total: int, before: int = number) -> None:
                progress(before * total + done, len(batches) * total)

            try:
                made: Sequence[Sample | Exception] = self._batch(
                    [items[slot] for slot in slots], size, arguments, stop, tell
                )
            except Exception as error:
                if len(items) == 1 or _ends_the_call(error):
                    raise
                made = [self._alone(items[slot], size, arguments, stop, tell) for slot in slots]
            samples.update(zip(slots, made, strict=True))
        ordered = [samples[slot] for slot in range(len(items))]
        if all(isinstance(one, Exception) for one in ordered):
            raise next(one for one in ordered if isinstance(one, Exception))
        return ordered

    def _alone(
        self,
        item: Item,
        size: int,
        arguments: Mapping[str, Json],
        stop: threading.Event,
        progress: Progress,
    ) -> Sample | Exception:
        """One image of a batch that failed, without the others."""
        self._clean_up()
        try:
            return self._batch([item], size, arguments, stop, progress)[0]
        except Exception as error:
            if _ends_the_call(error):
                raise
            # Its traceback would keep the tensors of the batch.
            return error.with_traceback(None)

    def _clean_up(self) -> None:
        """What the pipeline does at the end of a call, after one that was broken off.

        Caches between steps are emptied, and parts that are offloaded go back to the CPU.
        """
        for pipe in self._pipes:
            pipe.maybe_free_model_hooks()

    def _batch(
        self,
        items: Sequence[Item],
        size: int,
        arguments: Mapping[str, Json],
        stop: threading.Event,
        progress: Progress,
    ) -> list[Sample]:
        import torch

        filled = [*items, *[items[-1]] * (size - len(items))]
        self._generators[:] = [torch.Generator("cpu").manual_seed(item.seed) for item in filled]
        call: dict[str, Any] = {
            **self._constants,
            **arguments,
            "prompt": [item.prompt for item in filled],
            "generator": list(self._generators),
            "output_type": "np",
            **{name: gathered(filled, name) for name in filled[0].pictures},
        }
        if filled[0].negative_prompt is not None:
            call["negative_prompt"] = [item.negative_prompt for item in filled]
        if self._reports_steps:
            call["callback_on_step_end"] = _step_callback(stop, progress)
        if stop.is_set():
            raise StoppedError
        self._memo_warnings()  # A batch that was stopped has left its own.
        with NOTICES.listen() as heard:
            result = (
                self.pipe(**call)
                if self._refiner is None
                else self._refined(self._refiner, call, stop, progress)
            )
        of_prompts = self._memo_warnings() or [[]] * len(filled)
        flags = getattr(result, "nsfw_content_detected", None) or [False] * len(items)
        return [
            Sample(
                pixels=result.images[slot],
                flagged=bool(flags[slot]),
                warnings=tuple(dict.fromkeys([*of_prompts[slot], *heard])),
            )
            for slot in range(len(items))
        ]

    def _refined(
        self,
        refiner: LoadedRefiner,
        call: Mapping[str, Any],
        stop: threading.Event,
        progress: Progress,
    ) -> Any:
        """The first steps by the pipeline, the last by its refiner."""

        def first(done: int, total: int) -> None:
            progress(done, max(done + 1, round(total / refiner.start)))

        rough = self.pipe(
            **{
                **call,
                "denoising_end": refiner.start,
                "output_type": "latent",
                "callback_on_step_end": _step_callback(stop, first),
            }
        )
        before = self.pipe.num_timesteps

        def last(done: int, total: int) -> None:
            progress(before + done, before + total)

        return refiner.pipe(
            **{name: call[name] for name in PASSED_ON if name in call},
            image=rough.images,
            denoising_start=refiner.start,
            output_type="np",
            callback_on_step_end=_step_callback(stop, last),
        )

    def _memo_warnings(self) -> list[list[str]]:
        """Per image, what was said while its prompt was encoded."""
        said = [memo.take_warnings() for memo in self._memos]
        per_image = zip(*filter(None, said), strict=True)
        return [list(itertools.chain(*of_image)) for of_image in per_image]

    def _feed_scheduler(self, pipe: DiffusionPipeline) -> None:
        """Hand the generators to a scheduler that draws noise but is not given them.

        About half of all pipelines call ``scheduler.step`` without ``generator``; a stochastic
        scheduler then draws from torch's global one, and a seed does not fix the image.
        """
        scheduler = getattr(pipe, "scheduler", None)
        if scheduler is None or "generator" not in inspect.signature(scheduler.step).parameters:
            return
        step = scheduler.step

        @functools.wraps(step)
        def seeded_step(*args: Any, **kwargs: Any) -> Any:
            if kwargs.get("generator") is None:
                kwargs["generator"] = self._generators
            return step(*args, **kwargs)

        scheduler.step = seeded_step


def _said(made: Sample | Exception, size: int, asked: int) -> Sample | Exception:
    if size == asked or isinstance(made, Exception):
        return made
    text = f"computed in batches of {size}: device.batch_size={asked} does not fit into the memory"
    return replace(made, warnings=(*made.warnings, text))


def _step_callback(stop: threading.Event, progress: Progress) -> Callable[..., dict[str, Any]]:
    def on_step_end(
        pipe: DiffusionPipeline, step: int, _: object, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        # An exception, not `pipe._interrupt`: that decodes the unfinished image as if it were one.
        if stop.is_set():
            raise StoppedError
        total = getattr(pipe, "num_timesteps", None) or len(pipe.scheduler.timesteps)
        progress(min(step + 1, total), total)
        return tensors

    return on_step_end


def _ends_the_call(error: Exception) -> bool:
    """Whether no other image of the call can be made after this."""
    return (
        isinstance(error, StoppedError)
        or _is_out_of_memory(error)
        or (isinstance(error, RuntimeError) and "CUDA error" in str(error))
    )


def _is_out_of_memory(error: Exception) -> bool:
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # Libraries beside torch's own allocator have words of their own.
    words = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and (
        any(word in str(error) for word in words) or should_reduce_batch_size(error)
    )
