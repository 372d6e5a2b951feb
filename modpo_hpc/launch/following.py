"""Have a run follow a study: a new run, the same study, or another one while nothing of the old is under way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from modpo_hpc.core import studies
from modpo_hpc.core.reuse import check_reuse
from modpo_hpc.errors import InputError
from modpo_hpc.launch.state import take_snapshot
from modpo_hpc.run import Run
from modpo_hpc.study import Study, differences


def follow_study(folder: str | Path, study: Study, reuse: Sequence[str] = ()) -> Run:
    """The run in ``folder``, which follows ``study`` and takes results from the runs ``reuse``, too.

    Raises:
        InputError: see ``Run.create``; or jobs of another study of this run are in the queue.
    """
    places = check_reuse(reuse)
    if (Path(folder) / studies.STUDY_FILE).exists():
        present = Run.open(folder)
        if differences(present.study, study):
            refuse_while_queued(present)
    run = Run.create(folder, study)
    studies.remember_reuse(run.root, places)
    return run


def refuse_while_queued(run: Run) -> None:
    """Refuse to change the study of ``run`` while Slurm has jobs of the present one.

    Raises:
        InputError: names how many, and the command that takes them out of the queue.
    """
    snapshot = take_snapshot(run)
    alive = {stage: len(jobs) for stage in snapshot.shards if (jobs := snapshot.alive(stage))}
    if alive:
        shown = ", ".join(f"{count} of {stage}" for stage, count in alive.items())
        raise InputError(
            f"shards of the present study of this run are queued or running ({shown})",
            file=run.root,
            remedy=f"Wait for them, or take them out of the queue: modpo cancel {run.quoted}",
        )
