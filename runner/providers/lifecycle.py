"""What to say about a model that is going or gone: the data is in ``conf/model/``."""

from __future__ import annotations

import datetime

from runner.settings.schema import ModelSettings


def lifecycle_warning(model: ModelSettings, today: datetime.date | None = None) -> str | None:
    """One sentence about a model that is not simply active, with its date and replacement.

    Args:
        model: The chosen model.
        today: For tests; the day in UTC by default.

    Returns:
        ``None`` for an active model without an end in sight.
    """
    life = model.lifecycle
    if life.state == "active" and life.date is None:
        return None
    if life.state == "preview":
        return f"model {model.name} is a preview{_since(life.date)}{_instead(life.replacement)}"
    day = today or datetime.datetime.now(datetime.UTC).date()
    left = None if life.date is None else (life.date - day).days
    if life.state == "retired" or (left is not None and left <= 0):
        state = f"was retired{f' on {life.date}' if life.date else ''} and will likely be refused"
    elif left is not None:
        days = "tomorrow" if left == 1 else f"in {left} days"
        state = f"reaches its end of life on {life.date} ({days})"
    else:
        state = "is deprecated"
    return f"model {model.name} {state}{_instead(life.replacement)}"


def replacement(model: ModelSettings) -> str:
    """The end of a sentence that names what to use instead, or an empty text."""
    return _instead(model.lifecycle.replacement)


def _instead(name: str | None) -> str:
    return f"; use {name} instead" if name else ""


def _since(date: datetime.date | None) -> str:
    return f" since {date}" if date else ""
