"""Everything that is not a command: one batch, a sweep, and Hydra's own flags."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from runner.cli.composer import (
    CONFIG_NAME,
    as_composed,
    explain,
    group_options,
    make_hydra,
    parse_flags,
)
from runner.settings.errors import RequestError, RunnerError
from runner.settings.secrets import refuse_secret_overrides

if TYPE_CHECKING:
    from runner.cli.batch import Batch
    from runner.cli.expand import Expanded


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Hydra, ready, and what was typed."""

    hydra: Hydra
    flags: argparse.Namespace

    @property
    def config_name(self) -> str:
        """The primary config: ours, or what ``-cn`` says."""
        return self.flags.config_name or CONFIG_NAME

    def expand(self) -> Expanded:
        """What is asked for, as variants and axes."""
        from runner.cli.expand import expand

        return expand(
            self.hydra.config_loader,
            self.config_name,
            self.flags.overrides,
            multirun=self.flags.multirun,
        )


def read_command_line(argv: Sequence[str]) -> CommandLine:
    """Parse flags and find the config tree."""
    flags = parse_flags(argv)
    refuse_secret_overrides(flags.overrides)
    return CommandLine(make_hydra(flags), flags)


def run_hydra(argv: Sequence[str]) -> int:
    """Run what a command line of flags and overrides asks for; returns the exit code."""
    line = read_command_line(argv)
    if _show(line):
        return 0
    if not line.flags.multirun:
        expanded = line.expand()
        if expanded.hydra_config.hydra.mode is not RunMode.MULTIRUN:
            return _run(line.hydra, expanded, sweep=False)
    return _multirun(line)


def _show(line: CommandLine) -> bool:
    """Hydra's own flags that show something instead of running."""
    hydra, flags = line.hydra, line.flags
    try:
        if flags.hydra_help:
            hydra.hydra_help(line.config_name, get_args_parser(), flags)
        elif flags.cfg:
            asked = as_composed(hydra.config_loader, line.config_name, flags.overrides)
            hydra.show_cfg(line.config_name, asked, flags.cfg, flags.package, flags.resolve)
        elif flags.shell_completion:
            hydra.shell_completion(line.config_name, flags.overrides)
        elif flags.info is not None:
            hydra.show_info(flags.info, line.config_name, flags.overrides)
        else:
            return False
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(explain(error, hydra.config_loader, line.config_name)) from error
    return True


def _multirun(line: CommandLine) -> int:
    from runner.cli.overrides import prepare
    from runner.cli.sweeper import register

    register(lambda expanded: _run(line.hydra, expanded, sweep=True))
    loader = line.hydra.config_loader
    overrides = prepare(
        line.flags.overrides,
        multirun=True,
        options_of=lambda group: group_options(loader, group),
    )
    try:
        result = line.hydra.multirun(
            line.config_name,
            lambda config: _run_composed(line, config),
            overrides,
            with_log_configuration=False,
        )
    except (HydraException, OmegaConfBaseException) as error:
        raise RequestError(explain(error, loader, line.config_name)) from error
    if isinstance(result, int):
        return result
    outcomes = [job.return_value for batch in result for job in batch]
    for outcome in outcomes:
        if isinstance(outcome, RunnerError):
            raise outcome
    return max(map(int, outcomes), default=0)


def _run_composed(line: CommandLine, config: DictConfig) -> int | RunnerError:
    """One job of another sweeper or launcher, in the folder that Hydra made for it."""
    from runner.cli.batch import prepare_batch, run_batch
    from runner.cli.expand import expand

    hydra_config = HydraConfig.get()
    overrides = list(hydra_config.overrides.task)
    expanded = expand(line.hydra.config_loader, line.config_name, overrides, multirun=False)
    batch = prepare_batch(expanded, Path(hydra_config.runtime.output_dir))
    return _outcome(run_batch, batch)


def _run(hydra: Hydra, expanded: Expanded, *, sweep: bool) -> int:
    """One batch in Hydra's output folder, which is touched only when there is something to do."""
    from runner.cli.batch import fresh_folder, made_before, make_batch, prepare_batch

    config = expanded.hydra_config
    key = "hydra.sweep.dir" if sweep else "hydra.run.dir"
    chosen = Path(str(OmegaConf.select(config, key)))
    with read_write(config), read_write(config.hydra), open_dict(config):
        if not any(text.startswith(key) for text in config.hydra.overrides.hydra):
            OmegaConf.update(config, key, str(fresh_folder(chosen)))
        config.hydra.overrides.task = [
            text for text in expanded.overrides if not text.startswith("hydra")
        ]
        config.hydra.mode = RunMode.MULTIRUN if sweep else RunMode.RUN
    batch = prepare_batch(expanded, Path(str(OmegaConf.select(config, key))))
    if made_before(batch):
        return 0
    callbacks = Callbacks(config)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=callbacks)
    job = run_job(
        task_function=lambda _: _outcome(make_batch, batch),
        config=config,
        job_dir_key=key,
        job_subdir_key=None,
        hydra_context=context,
        configure_logging=False,
    )
    outcome: Any = job.return_value
    if isinstance(outcome, RunnerError):
        raise outcome
    return int(outcome)


def _outcome(work: Callable[[Batch], int], batch: Batch) -> int | RunnerError:
    """The exit code, or an error of ours as a value: Hydra would print a raised one its own way."""
    try:
        return work(batch)
    except RunnerError as error:
        return error
