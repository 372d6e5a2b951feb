"""Stand-in: a trial whose accuracy is drawn, not reached."""

from __future__ import annotations

from modpo_hpc.alignment.trial import TRIALS, trial_row
from modpo_hpc.rehearsal.standins import drawn_policy_trial
from modpo_hpc.run import Run, Shard


def tune_policy(run: Run, shard: Shard) -> None:
    policy, _, number = shard.id.rpartition(".")
    shard.write_table([trial_row(run, policy, drawn_policy_trial(run, policy, int(number)))], TRIALS)
