"""A memo of encoded prompts: each unique prompt goes through the text encoders once.

:class:`PromptMemo` stands in for ``pipe.encode_prompt`` and needs to know no family: it binds the
call to the signature of the original, tells the arguments that have one text per image from those
that all images share, and remembers the encoded rows one by one.

Rows that are missing are encoded in one call of the original, filled up to the size of the batch.
Neither slot nor neighbours change a bit of a row and batch size does, so a remembered row equals
the one that the plain pipeline computes at this batch size, bit for bit, and a batch of prompts
that are all new costs what it costs there.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from runner.providers.local.notices import NOTICES

if TYPE_CHECKING:
    import torch

_Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """One output of ``encode_prompt``, for one image.

    Attributes:
        value: A tensor (on the CPU), or whatever else the original returned.
        kind: The image's own ``slice`` of a tensor or ``item`` of a list; or the ``whole``, which
            all images share.
        device: Where the tensor was.
    """

    value: Any
    kind: Literal["slice", "item", "whole"]
    device: torch.device | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """Everything that ``encode_prompt`` made for one image, and what was said meanwhile."""

    parts: tuple[_Part, ...]
    warnings: tuple[str, ...]
    nbytes: int


@dataclass(frozen=True, slots=True)
class _Request:
    """A call of ``encode_prompt``, taken apart.

    Attributes:
        size: Images in the batch.
        shared: Argument to its value, for arguments that all images share.
        texts: Argument to one text (or ``None``) per image.
    """

    size: int
    shared: dict[str, Any]
    texts: dict[str, list[str | None]]

    def keys(self) -> list[_Key]:
        """Per image, everything that its row depends on."""
        common = (self.size, *((name, str(value)) for name, value in self.shared.items()))
        return [
            (*common, *((name, texts[slot]) for name, texts in self.texts.items()))
            for slot in range(self.size)
        ]

    def only(self, slots: Sequence[int]) -> dict[str, Any]:
        """Arguments of a call for these images instead."""
        return self.shared | {
            name: [texts[slot] for slot in slots] for name, texts in self.texts.items()
        }


class PromptMemo:
    """Stands in for ``encode_prompt`` of one pipeline object.

    Args:
        encode: The original, bound method.
        limit_bytes: Most memory that remembered rows may hold. 0 remembers nothing, and changes
            no bit of any image.
    """

    def __init__(self, encode: Callable[..., Any], limit_bytes: int) -> None:
        self._encode = encode
        self._signature = inspect.signature(encode)
        self._limit = limit_bytes
        self._rows: OrderedDict[_Key, _Row] = OrderedDict()
        self._nbytes = 0
        self._warnings: list[list[str]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Encode as the original does, from memory where possible."""
        request = _take_apart(self._signature.bind(*args, **kwargs).arguments)
        if request is None:
            return self._encode(*args, **kwargs)
        keys = request.keys()
        rows = {key: self._rows[key] for key in keys if key in self._rows}
        missing = {key: slot for slot, key in enumerate(keys) if key not in rows}
        if missing:
            rows.update(zip(missing, self._encode_rows(request, [*missing.values()]), strict=True))
        self._remember(rows)
        batch = [rows[key] for key in keys]
        self._warnings += [[] for _ in range(len(batch) - len(self._warnings))]
        for heard, row in zip(self._warnings, batch, strict=True):
            heard += row.warnings
        columns = [_join(column) for column in zip(*(row.parts for row in batch), strict=True)]
        return columns[0] if len(columns) == 1 else tuple(columns)

    def take_warnings(self) -> list[list[str]]:
        """Per image, what was said while its prompts were encoded since the last call."""
        taken, self._warnings = self._warnings, []
        return taken

    def _encode_rows(self, request: _Request, slots: list[int]) -> list[_Row]:
        """Encode these images in one full batch; the fill is thrown away."""
        filled = slots + slots[-1:] * (request.size - len(slots))
        with NOTICES.listen() as heard:
            made = self._encode(**request.only(filled))
        warnings = [tuple(heard)] * len(slots)
        if heard and request.size > 1:
            # The warning does not say whose it is: ask again, one by one, only to listen.
            warnings = [self._listen(request.only([slot])) for slot in slots]
        outputs = made if isinstance(made, tuple) else (made,)
        return [
            _row([_part(output, place, request.size) for output in outputs], warnings[place])
            for place in range(len(slots))
        ]

    def _listen(self, arguments: dict[str, Any]) -> tuple[str, ...]:
        with NOTICES.listen() as heard:
            self._encode(**arguments)
        return tuple(heard)

    def _remember(self, rows: dict[_Key, _Row]) -> None:
        """Mark the rows as the latest used, then drop the oldest that do not fit."""
        for key, row in rows.items():
            if key not in self._rows:
                self._rows[key] = row
                self._nbytes += row.nbytes
            self._rows.move_to_end(key)
        while self._rows and self._nbytes > self._limit:
            self._nbytes -= self._rows.popitem(last=False)[1].nbytes


def _take_apart(arguments: dict[str, Any]) -> _Request | None:
    """The call as a request, or ``None`` if it holds anything but texts and plain values."""
    import torch

    prompt = arguments.get("prompt")
    if not isinstance(prompt, list) or arguments.get("num_images_per_prompt", 1) != 1:
        return None
    shared: dict[str, Any] = {}
    texts: dict[str, list[str | None]] = {}
    for name, value in arguments.items():
        if isinstance(value, list):
            if len(value) != len(prompt) or not all(isinstance(text, str | None) for text in value):
                return None
            texts[name] = value
        elif isinstance(value, bool | int | float | str | torch.device | torch.dtype | None):
            shared[name] = value
        else:
            return None
    return _Request(len(prompt), shared, texts)


def _part(output: Any, place: int, size: int) -> _Part:
    import torch

    if isinstance(output, list) and len(output) == size:
        return _Part(output[place], "item")
    if not isinstance(output, torch.Tensor):
        return _Part(output, "whole")
    if output.shape[:1] != (size,):
        return _Part(output.to("cpu", copy=True), "whole", output.device)
    # A copy: a view would keep the whole batch alive.
    own = output[place : place + 1].to("cpu", copy=True)
    return _Part(own, "slice", output.device)


def _row(parts: list[_Part], warnings: tuple[str, ...]) -> _Row:
    import torch

    nbytes = sum(part.value.nbytes for part in parts if isinstance(part.value, torch.Tensor))
    return _Row(tuple(parts), warnings, nbytes)


def _join(column: Sequence[_Part]) -> Any:
    import torch

    first = column[0]
    if first.kind == "item":
        return [part.value for part in column]
    if first.kind == "slice":
        return torch.cat([part.value for part in column]).to(first.device)
    return first.value if first.device is None else first.value.to(first.device)
