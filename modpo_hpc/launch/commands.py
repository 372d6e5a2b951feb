"""Call Slurm's commands, in a clean environment, and again when the controller was only busy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

from modpo_hpc.errors import InputError, ModpoError

NO_JOB = "Invalid job id"
# Nothing is wrong with the call: the controller is busy, restarting or hands over to its twin.
PASSING = (
    "Socket timed out", "Unable to contact slurm controller", "Connection refused", "Connection timed out",
    "Resource temporarily unavailable", "temporarily unable to accept", "Zero Bytes were transmitted",
    "standby mode", "Message connect failure", "Connection reset", "Slurm controller not responding",
    "Transport endpoint is not connected", "Unspecified error", "is DOWN", "Rate limit exceeded",
    "Communication connection failure", "Communication shutdown failure", "Message send failure",
    "Message receive failure", "System submissions disabled",
)  # fmt: skip

QUICK_SECONDS = 10.0
"""How long a command that only looks waits for an answer of Slurm."""
WAIT_SECONDS = 300.0
"""How long a command that changes the queue bears with a controller that is away: a restart, a change of master."""
LONGEST_PAUSE = 15.0


class SlurmError(ModpoError):
    """A Slurm command failed; the message holds what it said."""


class SlurmSilent(SlurmError):
    """Slurm does not answer, although nothing is wrong with the call; the same may work in a while."""

    exit_code = 4


def available() -> bool:
    """Whether the Slurm commands are on this machine."""
    return all(shutil.which(command) for command in ("sbatch", "squeue", "scontrol", "scancel", "sinfo"))


def require_slurm(wait: float | None = None) -> None:
    """Refuse to go on without Slurm; a controller that is away is waited for, ``wait`` seconds or the usual ones.

    Raises:
        InputError: its commands are not here, or what they say is not that of a controller that is away.
        SlurmSilent: its controller does not answer.
    """
    if not available():
        raise InputError(
            "there is no Slurm on this machine (sbatch, squeue, scontrol, scancel and sinfo are looked for)",
            remedy="Log in to the cluster, or run here with: modpo run. To try one out: slurm/testbed/testbed.py",
        )
    try:
        call("scontrol", "ping", timeout=QUICK_SECONDS, wait=WAIT_SECONDS if wait is None else wait)
    except SlurmSilent:
        raise
    except SlurmError as error:
        raise InputError(
            f"Slurm does not answer ({error})",
            remedy="Is this a login node of the cluster, and SLURM_CONF right? Try: scontrol ping",
        ) from error


def call(*command: str, timeout: float = 60, wait: float = 0.0, text_in: str | None = None) -> str:
    """Standard output of a Slurm ``command``.

    A controller that is away is asked again, with growing pauses, until these come to ``wait`` seconds. Whoever
    waits longer than a moment is told so on standard error.

    Raises:
        SlurmSilent: no answer in that time.
        SlurmError: it failed, or there is no such command.
    """
    waited, pause = 0.0, 1.0
    while True:
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                input=text_in,
                env=clean_environment(os.environ),
            )
        except FileNotFoundError:
            raise SlurmError(f"{command[0]} is not on this machine") from None
        except subprocess.TimeoutExpired:
            message = f"Socket timed out: no answer in {timeout:.0f} s"
            waited += timeout
        else:
            if done.returncode == 0:
                return done.stdout if text_in is None else done.stdout + done.stderr
            message = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        last = [line for line in message.splitlines() if any(one.islower() for one in line)] or [message]
        told = f"{command[0]}: {last[-1].removeprefix(f'{command[0]}: ')}"
        if not is_passing(message):
            raise SlurmError(told if command[0] != "sbatch" else f"{command[0]}: {message}")
        if waited >= wait:
            raise SlurmSilent(told)
        if pause == 4:
            print(f"Slurm does not answer ({told}); asked again for up to {wait:.0f} s", file=sys.stderr)
        time.sleep(pause)
        waited, pause = waited + pause, min(LONGEST_PAUSE, 2 * pause)


def is_passing(message: str) -> bool:
    """Whether what a Slurm command said is a hiccup, so that the same call may work in a moment."""
    return any(one in message for one in PASSING)


def clean_environment(environment: os._Environ[str] | dict[str, str]) -> dict[str, str]:
    """``environment`` without what an interactive job leaves in it.

    SLURM_* and SLURM_CPU_BIND* would bind the new job as the old one was; SBATCH_* would override its options.
    """
    return {
        key: value
        for key, value in environment.items()
        if key == "SLURM_CONF"
        or not key.startswith(("SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "SALLOC_", "SUBMITIT_", "PMI"))
    }
