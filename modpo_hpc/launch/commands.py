"""Call Slurm's commands, in a clean environment, and again when the controller was only busy."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

from modpo_hpc.errors import InputError, ModpoError

NO_JOB = ("Invalid job id",)
# Nothing is wrong with the call: the controller is busy, restarting or hands over to its twin.
PASSING = (
    "Socket timed out", "Unable to contact slurm controller", "Connection refused", "Connection timed out",
    "Resource temporarily unavailable", "temporarily unable to accept", "Zero Bytes were transmitted",
    "standby mode", "Message connect failure", "Connection reset", "Slurm controller not responding",
    "Transport endpoint is not connected", "Unspecified error",
)  # fmt: skip


class SlurmError(ModpoError):
    """A Slurm command failed; the message holds what it said."""


def available() -> bool:
    """Whether the Slurm commands are on this machine."""
    return all(shutil.which(command) for command in ("sbatch", "squeue", "scontrol", "scancel", "sinfo"))


def require_slurm() -> None:
    """Refuse to go on without Slurm.

    Raises:
        InputError: its commands are not here, or its controller does not answer.
    """
    if not available():
        raise InputError(
            "there is no Slurm on this machine (sbatch, squeue, scontrol, scancel and sinfo are looked for)",
            remedy="Log in to the cluster, or run here with: modpo run. To try one out: slurm/testbed/testbed.py",
        )
    try:
        call("scontrol", "ping", attempts=4)
    except SlurmError as error:
        raise InputError(
            f"Slurm does not answer ({error})",
            remedy="Is this a login node of the cluster, and SLURM_CONF right? Try: scontrol ping",
        ) from error


def call(*command: str, timeout: float = 60, attempts: int = 1, text_in: str | None = None) -> str:
    """Standard output of a Slurm ``command``; hiccups of the controller are retried with growing pauses.

    Raises:
        SlurmError: it failed, or there is no such command.
    """
    for attempt in range(attempts):
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=timeout,
                input=text_in,
                env=clean_environment(os.environ),
            )
        except FileNotFoundError:
            raise SlurmError(f"{command[0]} is not on this machine") from None
        except subprocess.TimeoutExpired:
            words = f"Socket timed out: no answer in {timeout:.0f} s"
        else:
            if done.returncode == 0:
                return done.stdout if text_in is None else done.stdout + done.stderr
            words = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        if attempt + 1 < attempts and is_passing(words):
            time.sleep(2**attempt)
        else:
            break
    raise SlurmError(f"{command[0]}: {words.splitlines()[-1].removeprefix(f'{command[0]}: ')}")


def is_passing(words: str) -> bool:
    """Whether what a Slurm command said is a hiccup, so that the same call may work in a moment."""
    return any(one in words for one in PASSING)


def clean_environment(environment: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """``environment`` without what an interactive job leaves in it.

    SLURM_* and SLURM_CPU_BIND* would bind the new job as the old one was; SBATCH_* would override its options.
    """
    kept = ("SLURM_CONF",)
    return {
        key: value
        for key, value in environment.items()
        if key in kept or not key.startswith(("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SALLOC_", "SUBMITIT_", "PMI"))
    }
