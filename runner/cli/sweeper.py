"""The Hydra Sweeper behind ``-m``: one plan, one run folder, one manifest, one gallery.

Hydra's own sweeper composes one config per point and runs one job per config. This one composes
one config per combination of groups and hands everything else to the plan as axes.
``hydra/sweeper=basic`` gives Hydra's own behaviour back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.cli.composer import SWEEPER_MODULE

if TYPE_CHECKING:
    from runner.cli.expand import Expanded


class RunnerSweeper(Sweeper):
    """Turns a command line with several values per key into one lazy plan."""

    run: Callable[[Expanded], int]

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what :meth:`sweep` needs; the task function is for Hydra's own launchers."""
        self.hydra_context = hydra_context
        self.config = config

    def sweep(self, arguments: list[str]) -> int:
        """Run the whole sweep as one batch and return the exit code."""
        if self.hydra_context is None or self.config is None:
            raise RuntimeError("sweep() before setup()")
        from runner.cli.expand import expand

        expanded = expand(
            self.hydra_context.config_loader,
            str(self.config.hydra.job.config_name),
            [*_hydra_overrides(self.config), *arguments],
            multirun=True,
        )
        return type(self).run(expanded)


def _hydra_overrides(config: DictConfig) -> list[str]:
    """Overrides of Hydra's own section, which it keeps from sweepers; it sets the mode itself."""
    given = [str(text) for text in config.hydra.overrides.hydra]
    return [text for text in given if not text.startswith("hydra.mode=")]


def register(run: Callable[[Expanded], int]) -> None:
    """Make ``hydra/sweeper=runner`` known to this process.

    Args:
        run: Runs what a command line asks for and returns the exit code.
    """
    RunnerSweeper.run = staticmethod(run)
    plugins = Plugins.instance()
    # Hydra 1.3 takes plugins only from modules of this prefix; a real top-level folder of that
    # name would be scanned by every Hydra program on the machine.
    module = ModuleType(SWEEPER_MODULE)
    RunnerSweeper.__module__ = SWEEPER_MODULE
    module.RunnerSweeper = RunnerSweeper  # type: ignore[attr-defined]
    parent, _, name = SWEEPER_MODULE.partition(".")
    setattr(sys.modules.setdefault(parent, ModuleType(parent)), name, module)
    sys.modules[SWEEPER_MODULE] = module
    plugins.register(RunnerSweeper)
