"""What a shard gets on a cluster: the study's resources, with the placement of the profile over them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from modpo_hpc.errors import InputError
from modpo_hpc.launch.profile import EARLY_SIGNAL_SECONDS, Launcher, Placement, Profile
from modpo_hpc.pipeline import Stage
from modpo_hpc.study import Study

PLACE = ("partition", "account", "qos", "constraint", "exclude")


@dataclass(frozen=True)
class Allocation:
    """What one shard of one stage gets: the study's resources with the profile's placement over them."""

    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    gres: str | None
    exclude: str | None
    nodes: int
    gpus: int
    cpus: int
    memory_gb: float
    minutes: int
    throttle: int
    launcher: Launcher
    pack: int
    resident: bool
    sbatch: tuple[tuple[str, str | int | bool], ...]

    @property
    def place(self) -> dict[str, str | None]:
        """Which nodes may take it, and on whose account: options of sbatch and srun."""
        return {name: getattr(self, name) for name in PLACE}

    @property
    def tasks_per_node(self) -> int:
        """Processes that srun starts on each node."""
        return max(1, self.gpus) if self.launcher == "srun" else 1


def allocate(profile: Profile, study: Study, stage: Stage) -> Allocation:
    """What a shard of ``stage`` gets on the cluster of ``profile``.

    Raises:
        InputError: the time limit leaves no room for the signal before its end, or nothing would use all the nodes.
    """
    base, mine = stage.resources(study), placement_of(profile, stage)

    def pick(field: str, default: Any = None) -> Any:
        given = (getattr(layer, field) for layer in (mine, profile))
        return next((value for value in given if value is not None), default)

    minutes = pick("minutes", base.minutes)
    shortest = math.floor((profile.limits.signal_seconds + EARLY_SIGNAL_SECONDS) / 60) + 1
    if minutes < shortest:
        raise InputError(
            f"a time limit of {minutes} min leaves no time before the signal, which may come "
            f"{profile.limits.signal_seconds + EARLY_SIGNAL_SECONDS} s before the end",
            field=f"stages.{stage.name}.minutes",
            value=minutes,
            remedy=f"Give {shortest} minutes or more, or lower limits.signal_seconds.",
        )
    pack = pick("pack", 1)
    gpus, gres = pick("gpus", base.gpus), pick("gres")
    nodes = pick("nodes", base.nodes)
    launcher = _launcher(profile, nodes, study, stage)
    if launcher != "python":
        pack = 1  # processes of several nodes or ranks make one shard together
    return Allocation(
        partition=mine.partition or (profile.gpu_partition if gpus else None) or profile.partition,
        account=pick("account"),
        qos=pick("qos"),
        constraint=pick("constraint"),
        gres=str(gres).format(gpus=gpus) if gres and gpus else None,
        exclude=pick("exclude"),
        nodes=nodes,
        gpus=gpus,
        cpus=max(base.cpus, pick("cpus", base.cpus)),
        memory_gb=float(pick("memory_gb", base.memory_gb)),
        minutes=minutes * pack,
        throttle=pick("throttle", profile.limits.throttle),
        launcher=launcher,
        pack=pack,
        resident=_resident(profile, study, stage, pack, launcher, gpus),
        sbatch=tuple({**profile.sbatch, **mine.sbatch}.items()),
    )


def placement_of(profile: Profile, stage: Stage) -> Placement:
    """What ``profile`` says of ``stage``, or of the stage whose place it takes."""
    named = profile.stages.get(stage.name) or profile.stages.get(stage.placed_like or "")
    return named or Placement()


def _launcher(profile: Profile, nodes: int, study: Study, stage: Stage) -> Launcher:
    """What starts the processes of a shard: what the profile says of the stage, else what fits it on that many nodes.

    What the profile says of all stages counts for those that can use it.
    """
    able: Launcher | None = "srun" if stage.in_ranks else "ray" if stage.on_ray else None
    wish = placement_of(profile, stage).launcher or (profile.launcher if profile.launcher == able else None)
    launcher = wish or (able if able and nodes > 1 else "python")

    def refuse(problem: str, field: str, value: object, remedy: str) -> InputError:
        return InputError(problem, field=f"{field} (of stage {stage.name})", value=value, remedy=remedy)

    if launcher not in ("python", able):
        raise refuse("this launcher cannot start such a shard", "launcher", launcher, f"Take {able or 'python'}.")
    if nodes > 1 and launcher == "python":
        remedy = f"Take launcher {able}, or one node." if able else "Take one; only training and judging can use more."
        raise refuse("a shard of one process runs on one node, the others would idle", "nodes", nodes, remedy)
    if launcher == "ray" and not any(judge.executor == "ray" for judge in study.judges):
        remedy = "Set judge.executor to ray in the study, or take one node and the launcher python."
        raise refuse("a Ray cluster would idle: the judge is asked from one process", "launcher", launcher, remedy)
    return launcher


def _resident(profile: Profile, study: Study, stage: Stage, pack: int, launcher: Launcher, gpus: int) -> bool:
    """Whether the shards of a job share one process; what the profile says of all stages counts for those that can."""
    mine = placement_of(profile, stage).resident
    served = stage.on_one_server and study.generation.engine == "server"
    able = stage.on_one_base or served
    if not (profile.resident and able if mine is None else mine):
        return False
    settings = [study.alignment.training_of(name) for name in study.alignment.trained] if stage.on_one_base else []
    refusals = {
        "only policies share a base model, and only answers of generation.engine server a server": not able,
        f"launcher {launcher} starts processes that train one policy together": launcher != "python",
        f"a policy on {gpus} GPUs is trained by {gpus} processes, each with a base of its own": gpus > 1 and not served,
        "by alignment.training.processes several train one policy": any((one.processes or 1) > 1 for one in settings),
        "DeepSpeed lays out the weights of the base for one policy": any(one.deepspeed for one in settings),
        "a base in four bits has not been tested so": not served and study.models.quantization is not None,
        "a job of one shard has nothing to share": pack == 1,
    }
    if problem := next((why for why, so in refusals.items() if so), None):
        raise InputError(
            f"resident does not fit: {problem}",
            field=f"stages.{stage.name}.resident",
            value=True,
            remedy="Give pack, one GPU and the launcher python, or take resident out.",
        )
    return True
