"""The dataset card: what is in it, how it was made, what a reader should know."""

from __future__ import annotations

import json
import shlex

from runner import __version__
from runner.report.export.source import Source, columns
from runner.report.text import usd

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(source: Source, head: str = "", usage: str = "") -> str:
    """A README for a data set, with the front matter that the Hub reads.

    Args:
        source: The run.
        head: Further lines of front matter.
        usage: Markdown that shows how to load it.
    """
    manifest = source.manifest
    size = next((name for most, name in _SIZES if source.count < most), "1M<n<10M")
    models = "\n".join(
        f"| {provider} | `{model}` | {count:,} |"
        for (provider, model), count in sorted(source.by_model.items())
    )
    table = "\n".join(
        f"| `{column.name}` | {column.description.replace('|', '/')} |" for column in columns()
    )
    command = shlex.join(["python", "-m", "runner", *manifest.command])
    missing = manifest.cells - source.count
    without = (
        f" {missing:,} planned cell{'s have' if missing > 1 else ' has'} no image."
        if missing
        else ""
    )
    cost = f" They cost {usd(manifest.cost_usd)}." if manifest.cost_usd else ""
    front = "\n".join(
        line
        for line in (
            f"pretty_name: {json.dumps(f'Images of run {manifest.run_id}')}",
            "task_categories:\n  - text-to-image",
            f"size_categories:\n  - {size}",
            "tags:\n  - synthetic\n  - image-generation",
            head.strip(),
        )
        if line
    )
    return f"""---
{front}
---

# Images of run {manifest.run_id}

{source.count:,} generated images, with a record of how each was made.{without}{cost}

```
{command}
```

| provider | model | images |
|---|---|---:|
{models}

{usage}
## Columns

| column | what |
|---|---|
{table}

## Before you use it

Every picture is synthetic: made by the models above, on {manifest.started_at[:10]}. The files
are the providers' own bytes, so marks such as C2PA manifests are as they came; `marks` names those
that were found. The licence of the pictures is what each provider's terms say; this card grants
none. Prompts are part of the data.

Made with image-batch-runner {manifest.code.version}; exported by {__version__}.
"""
