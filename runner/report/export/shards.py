"""WebDataset: tar files whose neighbouring members make a sample."""

from __future__ import annotations

import io
import itertools
import json
import tarfile
from pathlib import Path

from runner.report.export.card import dataset_card
from runner.report.export.source import Source

SAMPLES_PER_SHARD = 1000


def webdataset(source: Source, out: Path) -> None:
    """``00000.tar`` …: of each sample the image, the prompt (``.txt``) and the row (``.json``).

    Members have no times, owners or modes of this machine, so that the same run makes the same
    bytes.
    """
    samples = source.samples()
    for number in itertools.count():
        chunk = itertools.islice(samples, SAMPLES_PER_SHARD)
        first = next(chunk, None)
        if first is None:
            break
        with tarfile.open(out / f"{number:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for sample in itertools.chain([first], chunk):
                row = json.dumps(sample.members, ensure_ascii=False).encode("utf-8", "replace")
                text = sample.row.prompt.encode("utf-8", "replace")
                for suffix, data in ((sample.suffix, sample.data), (".json", row), (".txt", text)):
                    member = tarfile.TarInfo(sample.key + suffix)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    last = number - 1
    usage = f"""```python
import webdataset

for sample in webdataset.WebDataset("{{00000..{last:05d}}}.tar", shardshuffle=False).decode("pil"):
    sample["png"], sample["txt"], sample["json"]
```
"""
    (out / "README.md").write_text(dataset_card(source, usage=usage), encoding="utf-8")
