"""Where the package's own config tree lies: in a source checkout or in an installed wheel."""

from __future__ import annotations

from pathlib import Path


def conf_dir() -> Path:
    """Absolute path of ``conf/``: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "conf"
    return installed if (installed / "config.yaml").is_file() else package.parent / "conf"
