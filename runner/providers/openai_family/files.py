"""The files of an edit: input images, mask, markup, reference."""

from __future__ import annotations

from runner.providers.net import Http, Inputs, alpha_mask, grey_mask, inverted_mask
from runner.providers.openai_family.options import ImagesOptions, OpenAITraits
from runner.settings.cell import CellParams, PipelineKind

File = tuple[str, tuple[str, bytes, str]]
"""Field name; file name, bytes and type: as the SDK takes a file."""

MASKS = {"transparent": alpha_mask, "white": grey_mask, "black": inverted_mask}


class Files:
    """Reads the files of a variant's edits.

    Args:
        http: Downloads those that are https addresses.
        pipeline: Kind of pipeline.
        options: Name further files.
        traits: Name the mask's field and its polarity.
    """

    def __init__(
        self, http: Http, pipeline: PipelineKind, options: ImagesOptions, traits: OpenAITraits
    ) -> None:
        self._inputs = Inputs(http)
        self._pipeline = pipeline
        self._options = options
        self._traits = traits

    async def read(self, params: CellParams) -> list[File]:
        """The files of one call. Several images go as ``image[]``, one as ``image``.

        Raises:
            RequestError: One is not readable, or no image.
        """
        if self._pipeline == "text2img" or params.image is None:
            return []
        images = [await self._inputs.read(params.image)]
        for path in self._options.images:
            images.append(await self._inputs.read(path, "provider.options.images"))
        field = "image" if len(images) == 1 else "image[]"
        files: list[File] = [(field, image.part) for image in images]
        if params.mask is not None:
            mask = await self._inputs.mask(params.mask, MASKS[self._traits.mask_polarity])
            files.append((self._traits.mask_field, mask.part))
        for name in ("markup", "reference_image"):
            if further := getattr(self._options, name, None):
                image = await self._inputs.read(further, f"provider.options.{name}")
                files.append((name, image.part))
        return files
