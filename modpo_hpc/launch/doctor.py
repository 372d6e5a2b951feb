"""What this cluster offers, looked at from the login node and, if wished, from inside a job."""

from __future__ import annotations

import fcntl
import getpass
import importlib.util
import json
import math
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from modpo_hpc.errors import InputError
from modpo_hpc.launch import cluster, commands
from modpo_hpc.launch.allocation import allocate
from modpo_hpc.launch.profile import Profile
from modpo_hpc.pipeline import stage_named
from modpo_hpc.study import load_study

HUB = "https://huggingface.co"
NET_SECONDS = 5
JOB_SECONDS = 300
GPU_MINUTES, GPU_QUEUE_SECONDS = 10, 24 * 3600
SAID = "modpo-doctor: bad "
Verdict = Literal["good", "note", "bad"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``bad`` ones keep a study from running."""

    name: str
    verdict: Verdict
    message: str
    speeds: Mapping[str, float] = field(default_factory=dict)
    """What was measured, by the names of the profile's ``speeds``."""


def examine_cluster(profile: Profile | None) -> list[Finding]:
    """Slurm as seen from here."""
    try:
        commands.require_slurm()
    except InputError as error:
        return [Finding("Slurm", "bad", str(error))]
    settings, known = cluster.ask_settings(timeout=60), cluster.partitions()
    limits = (f"{name} ({f'{most:.0f} min' if math.isfinite(most) else 'no limit'})" for name, most in known.items())
    found = [
        Finding("Slurm", "good", settings.get("SLURM_VERSION", "version unknown")),
        Finding("partitions", "good", ", ".join(limits)),
    ]
    if profile is not None:
        names = [profile.gpu_partition, *(one.partition for one in (profile, *profile.stages.values()))]
        absent = sorted({part for name in names if name for part in name.split(",")} - {"", *known})
        message = f"not here: {', '.join(absent)}" if absent else "all of the profile are here"
        found.append(Finding("partitions of the profile", "bad" if absent else "good", message))
    mode, gathers = settings.get("PreemptMode", "OFF"), settings.get("ProctrackType", "")
    warned = mode == "OFF" or "preempt_send_user_signal" in settings.get("SlurmctldParameters", "")
    unwarned = ", told by SIGTERM alone, which does as well where there is a grace time"
    uncounted = "; a job over its memory ends as FAILED, triage tells by its words"
    found += [
        Finding("MaxArraySize", "good", f"{int(settings.get('MaxArraySize', 1001))}: larger stages are split"),
        _noted("JobRequeue", settings.get("JobRequeue") == "1", "on", "off; jobs ask for --requeue themselves"),
        Finding("PreemptMode", "good", mode if warned else f"{mode}{unwarned}"),
        _noted("ProctrackType", "cgroup" in gathers, gathers, f"{gathers}{uncounted}"),
    ]
    with suppress(commands.SlurmError):
        mine = ("user=" + getpass.getuser(), "format=account,user,maxsubmitjobs,grpsubmitjobs")
        associations = commands.call("sacctmgr", "-n", "-P", "show", "assoc", *mine, timeout=20)
        qos = commands.call("sacctmgr", "-n", "-P", "show", "qos", "format=name,maxsubmitpu,maxsubmitpa", timeout=20)
        found.append(submit_limits(associations, qos))
    try:
        commands.call("sacct", "--noheader", "--allocations", timeout=20)
        found.append(Finding("sacct", "good", "answers"))
    except commands.SlurmError as error:
        found.append(Finding("sacct", "note", f"{error}; status does without, but knows no hours of failed attempts"))
    return found


def examine_machine(folder: Path) -> list[Finding]:
    """This machine: a lock and a rename in ``folder``, GPUs, the hub, the cache of models."""
    return [_filesystem(folder), _gpus(), _internet(), _cache(), _compiler()]


def examine_from_a_job(profile: Profile, folder: Path) -> list[Finding]:
    """The same from inside a job of ``profile``.

    Raises:
        SlurmError: the job did not run.
    """
    gpu_stage = next((one for one in profile.stages.values() if one.gpus), None)
    with_gpu = bool(gpu_stage or profile.gpus or profile.gpu_partition)
    options = {
        "time": 5,
        "mem": "1G",
        "partition": (gpu_stage and gpu_stage.partition) or (with_gpu and profile.gpu_partition) or profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "gpus-per-node": int(with_gpu),
    }
    return _in_a_job(profile, options, ["-m", "modpo_hpc.launch.doctor", str(folder)], JOB_SECONDS)


def _in_a_job(profile: Profile, options: Mapping[str, object], inside: Sequence[str], seconds: float) -> list[Finding]:
    """What Python with ``inside`` finds in a job with those ``options`` of srun that have a value."""
    given = [f"--{name}={value}" for name, value in options.items() if value]
    script = job_script(profile, shlex.join(inside))
    command = ("srun", "--quiet", "--nodes=1", "--ntasks=1", *given, "bash", "-c", script)
    return read_job_output(commands.call(*command, timeout=seconds))


def job_script(profile: Profile, inside: str) -> str:
    """What the job runs: modules and set-up as every job has them, each failure said, then Python with ``inside``."""
    python = profile.python or shlex.quote(sys.executable)
    modules = [f"module load {shlex.quote(one)} || echo '{SAID}modules cannot load {one}'" for one in profile.modules]
    said = f'echo "{SAID}setup exit code $? of: $BASH_COMMAND"'
    # A line may end the shell, as `|| exit 1` does: that is said, and is no reason to lose what was said before.
    traps = (f"trap '{said}' ERR", f"trap '{said}; trap - ERR; exit 0' EXIT")
    variables = [f"export {name}={shlex.quote(value)}" for name, value in profile.environment.items()]
    last = f"{python} {inside} || echo '{SAID}python exit code '$?' of: {python}'"
    return "\n".join(
        ["exec 2>&1", *variables, *modules, *traps, *profile.setup, "trap - ERR EXIT", f"{{ {last}; }}", "true"]
    )


def read_job_output(text: str) -> list[Finding]:
    """The findings in what the job printed: those of its Python, and what of modules and set-up has failed."""
    found, rest = list[Finding](), list[str]()
    for line in text.splitlines():
        if line.startswith(SAID):
            name, message = line.removeprefix(SAID).split(" ", 1)
            last = f" ({rest.pop().strip()})" if rest else ""
            found.append(Finding(f"in a job: {name}", "bad", f"{message}{last}"))
        elif line.startswith("[{"):
            found += [Finding(**{**row, "name": f"in a job: {row['name']}"}) for row in json.loads(line)]
        else:
            rest.append(line)
    if not found:
        found.append(Finding("in a job: python", "bad", rest[-1] if rest else "the job printed nothing"))
    return found


def submit_limits(associations: str, qos: str) -> Finding:
    """How many jobs this user may have in the queue, from lines of sacctmgr (account, user, qos: names and limits)."""
    limits = []
    for line in associations.splitlines():
        account, _, most, group = (line.split("|") + [""] * 4)[:4]
        limits += [(int(one), f"{what} {account}") for one, what in ((most, "your"), (group, "group")) if one.isdigit()]
    for line in qos.splitlines():
        name, most, of_account = (line.split("|") + [""] * 3)[:3]
        limits += [(int(one), f"qos {name}") for one in (most, of_account) if one.isdigit()]
    if not limits:
        return Finding("submit limits", "good", "none told by sacctmgr")
    message = ", ".join(f"{count} jobs ({what})" for count, what in sorted(limits))
    return Finding("submit limits", "note", f"{message}; array elements count. modpo tend hands in the rest later")


def examine_training(study: str, overrides: Sequence[str] = (), profile: Profile | None = None) -> list[Finding]:
    """The study's own model on a GPU: see ``modpo_hpc.alignment.preflight``.

    With a ``profile`` in a job that gets what a policy gets, on the nodes where policies are trained; else here.

    Raises:
        InputError: the study file cannot be read, or the profile does not fit it.
        SlurmError: the job did not run.
    """
    settings = load_study(study, overrides)
    inside = ["-m", "modpo_hpc.alignment.preflight", str(Path(study).resolve()), *overrides]
    if profile is not None:
        wanted = allocate(profile, settings, stage_named("policies"))
        options = {
            "cpus-per-task": wanted.cpus,
            "mem": f"{int(wanted.memory_gb * 1024)}M",
            "time": GPU_MINUTES,
            **wanted.place,
            "gres": wanted.gres,
            "gpus-per-node": 0 if wanted.gres else wanted.gpus,
        }
        return _in_a_job(profile, options, inside, GPU_QUEUE_SECONDS)
    # In a process of its own: this command never imports torch.
    done = subprocess.run([sys.executable, *inside], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        return [Finding("training", "bad", f"the check itself failed: {last}")]
    return [Finding(**row) for row in json.loads(done.stdout.strip().splitlines()[-1])]


def _noted(name: str, good: bool, message: str, otherwise: str) -> Finding:
    return Finding(name, "good", message) if good else Finding(name, "note", otherwise)


def _filesystem(folder: Path) -> Finding:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            first = Path(place) / "first"
            with open(first, "w") as one, open(first) as two:
                fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(BlockingIOError):
                    fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    message = f"{folder}: a second process gets a lock that is held; mount it with flock"
                    return Finding("filesystem", "bad", message)
            os.replace(first, Path(place) / "second")
        free = shutil.disk_usage(folder).free / 1e9
        return Finding("filesystem", "good", f"{folder}: locks and renames work, {free:,.0f} GB free")
    except OSError as error:
        return Finding("filesystem", "bad", f"{folder}: {error.strerror or error}")


def _gpus() -> Finding:
    try:
        asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return Finding("GPU", "note", "none seen on this machine")
    # In a process of its own: this command never imports torch.
    script = "import torch; print(torch.cuda.is_available(), torch.version.cuda)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=180)
    usable = done.stdout.startswith("True")
    names = answer.strip().splitlines()
    message = f"{len(names)} x {names[0]}; torch {'sees it' if usable else 'does not see it'} ({done.stdout.strip()})"
    return Finding("GPU", "good" if usable else "bad", message)


def _internet() -> Finding:
    try:
        with urllib.request.urlopen(HUB, timeout=NET_SECONDS):
            return Finding("internet", "good", f"{HUB} answers")
    except OSError as error:
        why = getattr(error, "reason", error)
        message = f"{HUB} does not answer ({why}); use modpo doctor --fetch STUDY where it does"
        return Finding("internet", "note", message)


def _cache() -> Finding:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    models = sorted(path.name.removeprefix("models--").replace("--", "/") for path in home.glob("hub/models--*"))
    return _noted("model cache", bool(models), f"{home}: {', '.join(models[:6])}", f"{home}: empty")


def _compiler() -> Finding:
    if importlib.util.find_spec("deepspeed") is None:
        return Finding("DeepSpeed", "note", "not installed; plain PyTorch trains the policies")
    absent = "no g++ or ninja: fused optimizers cannot be built; load a compiler module"
    return _noted("DeepSpeed", all(map(shutil.which, ("g++", "ninja"))), "g++ and ninja are here", absent)


def main(arguments: Sequence[str]) -> None:
    """Print the findings of this machine as one line of JSON: what a job runs."""
    rows = [Finding("host", "good", socket.gethostname()), *examine_machine(Path(arguments[0]))]
    print(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main(sys.argv[1:])
