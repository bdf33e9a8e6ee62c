"""What a run tells of itself: its manifest, and while it goes on also rows and page."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress

from runner.engine.job import Job
from runner.engine.lane import Shared, utc_now
from runner.record.facts import code_facts, machine_facts, package_versions
from runner.record.manifest import (
    Counts,
    Manifest,
    RunStatus,
    VariantRecord,
    plain_object,
    read_manifest,
    write_manifest,
)
from runner.record.state import RunState, load_state
from runner.settings.cell import CostBasis

REFRESH_S = 5.0
"""Seconds between two manifests of a run that goes on, and at least between two pages."""

REFRESH_SHARE = 20.0
"""Rows and page read everything again: they wait so many times as long as the last took."""

_PACKAGES = ("hydra-core", "omegaconf", "pydantic", "pillow")

_BASES: tuple[CostBasis, ...] = (
    "unknown", "estimate", "price_book", "usage", "reported", "free",
)  # fmt: skip


class Chronicle:
    """Keeps the manifest of one run.

    Args:
        job: What is to be done.
        shared: What the lanes learn.
        state: What earlier processes left.
        cells: How many are planned.
    """

    def __init__(self, job: Job, shared: Shared, state: RunState, cells: int) -> None:
        self._job = job
        self._shared = shared
        self._manifest = self._first(state, cells)
        self._writing = asyncio.Lock()

    def begin(self) -> None:
        """Write the first manifest."""
        write_manifest(self._job.paths, self._manifest)

    async def keep_fresh(self, over: asyncio.Event) -> None:
        """Rewrite the manifest until the run is over."""
        live = await asyncio.to_thread(load_state, self._job.paths, live=True)
        while not over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(REFRESH_S):
                    await over.wait()
            if over.is_set():
                return
            await asyncio.to_thread(live.update, self._job.paths)
            await self.write(live)

    async def keep_showing(self) -> None:
        """Have rows and page written anew, ever more rarely, until this is cancelled."""
        wait = REFRESH_S
        while self._job.refresh is not None:
            await asyncio.sleep(wait)
            started = time.monotonic()
            with suppress(OSError):  # no process could be started: the last page is made in ours
                await self._job.refresh(self._job.paths.root)
            wait = max(REFRESH_S, REFRESH_SHARE * (time.monotonic() - started))

    async def write(self, state: RunState) -> None:
        """Write the manifest of the run that goes on."""
        # One at a time, so that none replaces a newer one.
        async with self._writing:
            manifest = self._as_of(state, "running", ended=False)
            await asyncio.to_thread(write_manifest, self._job.paths, manifest)

    def close(self, state: RunState, status: RunStatus, notes: Sequence[str]) -> None:
        """Write the last manifest.

        Args:
            state: All that the journal holds.
            status: How the run ended.
            notes: Sentences to add to its warnings.
        """
        self._manifest = self._as_of(state, status, ended=True, notes=notes)
        write_manifest(self._job.paths, self._manifest)

    def _first(self, state: RunState, cells: int) -> Manifest:
        job = self._job
        earlier = read_manifest(job.paths) if job.paths.manifest.is_file() else None
        variants = tuple(
            VariantRecord(
                index=variant.index,
                provider=variant.settings.provider.name,
                model=variant.settings.model.name,
                config=plain_object(config),
                settled=plain_object(settled),
                versions=dict(provider.versions()),
            )
            for variant, provider, config, settled in zip(
                job.plan.variants,
                job.providers,
                job.configs,
                job.settled or [{}] * len(job.configs),
                strict=True,
            )
        )
        return Manifest(
            run_id=earlier.run_id if earlier else uuid.uuid4().hex[:12],
            command=earlier.command if earlier else tuple(job.command),
            status="running",
            started_at=earlier.started_at if earlier else utc_now(),
            plan_hash=job.plan.hash,
            cells=cells,
            counts=Counts(**state.counts),
            variants=variants,
            code=code_facts(),
            machine=machine_facts(),
            packages=package_versions(_PACKAGES),
            recipes=dict(earlier.recipes) if earlier else {},
            inputs={file.path: file.sha256 for file in job.plan.inputs()},
            warnings=(*job.warnings, *self._shared.store.repairs),
        )

    def _as_of(
        self, state: RunState, status: RunStatus, *, ended: bool, notes: Sequence[str] = ()
    ) -> Manifest:
        shared = self._shared
        variants = tuple(
            variant.model_copy(
                update={
                    "model_identity": plain_object(shared.identities[variant.index]),
                    "settled": variant.settled
                    | plain_object(shared.settled.get(variant.index, {})),
                }
            )
            if variant.index in shared.identities
            else variant
            for variant in self._manifest.variants
        )
        known = state.cost_usd if state.cost_by_basis else None
        journal = self._job.paths.journal_files()
        return self._manifest.model_copy(
            update={
                "status": status,
                "ended_at": utc_now() if ended else None,
                "counts": Counts(**state.counts),
                "cost_usd": known,
                "cost_basis": _weakest(state),
                "cost_by_basis": {
                    basis: round(usd, 6) for basis, usd in state.cost_by_basis.items()
                },
                "cost_unknown_worst_usd": (
                    None if state.unpriced_calls else state.cost_unknown_worst_usd
                ),
                "variants": variants,
                "recipes": {
                    **self._manifest.recipes,
                    **{key: plain_object(recipe) for key, recipe in shared.recipes.items()},
                },
                "warnings": tuple(
                    dict.fromkeys([*self._manifest.warnings, *state.damaged, *notes])
                ),
                "writers": tuple(path.name for path in journal),
                "journal_bytes": sum(path.stat().st_size for path in journal),
            }
        )


def _weakest(state: RunState) -> CostBasis:
    """The weakest basis among the known costs."""
    return next((basis for basis in _BASES if basis in state.cost_by_basis), "unknown")
