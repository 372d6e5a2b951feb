"""The cluster profile: where jobs go, what a shard takes there, and what it costs.

A profile never changes a result: threads of arithmetic, seeds and shards come from the study alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, model_validator

from modpo_hpc.errors import InputError
from modpo_hpc.pipeline import STAGES
from modpo_hpc.resources import resource
from modpo_hpc.section import Section
from modpo_hpc.study.file import validated

# Slurm looks at time limits once a minute, so its signal may come this much before the delay that was asked for.
EARLY_SIGNAL_SECONDS = 60
# Not only "KEY": a budget name such as MAX_TOKENS is no secret, so TOKEN must end the name.
SECRET_NAME = re.compile(r"(API_?KEY|SECRET|PASSWORD|_TOKEN$|^TOKEN$|_KEY$)", re.IGNORECASE)
Launcher = Literal["python", "srun", "ray"]


class Placement(Section):
    """Where a job goes and what it takes. An empty field falls back: stage, then profile, then study."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = Field(None, description="instead of --gpus-per-node; {gpus} stands for their number")
    exclude: str | None = Field(None, description="nodes to keep away from")
    nodes: int | None = Field(None, ge=1)
    gpus: int | None = Field(None, ge=0, description="of each node")
    cpus: int | None = Field(None, ge=1, description="of each node; at least the threads that the study asks for")
    memory_gb: float | None = Field(None, gt=0, description="of each node")
    minutes: int | None = Field(None, ge=2, description="time limit of one attempt at one shard")
    pack: int | None = Field(
        None, ge=1, description="short shards that one job makes, one after the other: its start-up is paid once"
    )
    resident: bool | None = Field(
        None,
        description="the policies of a job (pack) are trained by one process, on one base model that stays loaded; "
        "their answers, with generation.engine server, come from one server that has all their adapters",
    )
    throttle: int | None = Field(None, ge=1, description="shards of a stage that run at once, at most")
    launcher: Launcher | None = Field(
        None,
        description="python: one process, starting others on its node itself; srun: one a GPU, over nodes (training); "
        "ray: one beside a Ray cluster over the nodes (judging)",
    )
    sbatch: dict[str, str | int | bool] = Field(default_factory=dict, description="any other sbatch option")


class Limits(Section):
    """How much at once, how often again."""

    array_size: int = Field(1000, ge=1, description="elements of one array; never above the cluster's MaxArraySize")
    throttle: int = Field(64, ge=1, description="shards of a stage that run at once, at most")
    timeouts: int = Field(3, ge=0, description="requeues of a shard that reached its time limit")
    preemptions: int = Field(50, ge=0, description="requeues of a shard that was preempted")
    signal_seconds: int = Field(120, ge=5, description="how long before its end a shard is told to save its state")


class ModelPrice(Section):
    """Price of a judge model, in the currency of the profile for a million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    batch: float = Field(0.5, ge=0, le=1, description="what the batch interface takes, as a share of this")


class Prices(Section):
    """What things cost; only used to say so."""

    currency: str = "USD"
    gpu_hour: float = Field(0.0, ge=0)
    models: dict[str, ModelPrice] = Field(default_factory=dict)


class Speeds(Section):
    """How fast this cluster is, for one process of a stage. Finished shards of a run take the place of these."""

    tokens_per_second: float = Field(1500, gt=0, description="of text made by a generation worker")
    training_tokens_per_second: float = Field(4000, gt=0, description="of an alignment worker")
    encoder_tokens_per_second: float = Field(40000, gt=0, description="of a reward model worker")
    calls_per_second: float = Field(8, gt=0, description="of a judging shard")
    startup_seconds: float = Field(60, ge=0, description="of a shard: imports and loading of a model")


class Profile(Placement):
    """A cluster, as this project sees it. ``stages`` overrides any of the placement for one stage."""

    description: str = ""
    gpu_partition: str | None = Field(None, description="partition of shards that take GPUs, where a stage names none")
    modules: tuple[str, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict, description="variables of every job; never a secret")
    setup: tuple[str, ...] = Field((), description="shell lines that run before the shard")
    python: str | None = Field(None, description="the interpreter in the jobs; the one of submit if empty")
    wckey: str | None = None
    stages: dict[str, Placement] = Field(default_factory=dict)
    limits: Limits = Limits()
    prices: Prices = Prices()
    speeds: Speeds = Speeds()

    @model_validator(mode="after")
    def _sensible(self) -> Profile:
        known = {stage.name for stage in STAGES}
        for stage in self.stages:
            if stage not in known:
                raise ValueError(f"stages names {stage!r}, which is no stage ({', '.join(sorted(known))})")
        for name in self.environment:
            if SECRET_NAME.search(name):
                raise ValueError(f"environment.{name} looks like a secret; export it in your shell, jobs inherit it")
        return self


def load_profile(name: str | Path) -> Profile:
    """The profile in the file ``name``, or the one called so in ``slurm/profiles``.

    Raises:
        InputError: no such profile, unreadable, unknown field or wrong value.
    """
    path = Path(name)
    if not path.is_file() and path.parent == Path() and not path.suffix:
        path = _shipped(path.name)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            "there is no such profile",
            file=path,
            remedy="Draft one for this cluster with: modpo profile init my-cluster.yaml",
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"the profile cannot be read: {error}", file=path, remedy="It must be YAML in UTF-8."
        ) from error
    if not isinstance(raw, dict):
        raise InputError("the profile is not a mapping of fields", file=path, remedy="See slurm/profiles for examples.")
    return validated(Profile, raw, path, "Correct the value in the profile.")


def light(profile: Profile) -> Profile:
    """``profile`` with its partitions, accounts and set-up, but no more CPUs, memory or GPUs than stand-ins need."""
    nothing = dict.fromkeys(("gpus", "gres", "cpus", "memory_gb", "minutes", "nodes", "launcher", "pack", "resident"))
    stages = {name: one.model_copy(update=nothing) for name, one in profile.stages.items()}
    return profile.model_copy(update={**nothing, "stages": stages})


def _shipped(name: str) -> Path:
    try:
        return resource(f"slurm/profiles/{name}.yaml")
    except InputError:
        folder = resource("slurm/profiles")
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise InputError(
            "there is no such profile",
            field="--profile",
            value=name,
            remedy=f"Shipped are: {known}. Or give a file; draft one with: modpo profile init my-cluster.yaml",
        ) from None
