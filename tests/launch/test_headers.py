"""The shell lines that run in a job before its shard, in a real shell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from modpo_hpc.errors import InputError
from modpo_hpc.launch.allocation import allocate
from modpo_hpc.launch.batch_scripts import sbatch_header, setup_lines
from modpo_hpc.launch.graph import Work
from modpo_hpc.launch.profile import Profile, load_profile
from modpo_hpc.pipeline import STAGES, stage_named
from modpo_hpc.run import Run
from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY

DEMO = REPOSITORY / "configs" / "demo.yaml"


def job_environment(profile: Profile, folder: Path, **variables: str) -> dict[str, str]:
    """The environment after the shell lines of a job, on a node that keeps nothing else."""
    lines = setup_lines(allocate(profile, load_study(REPOSITORY / "configs/demo.yaml"), STAGES[0]), profile, "jobs")
    shell = [
        "env",
        "-i",
        "PATH=/usr/bin:/bin",
        *(f"{name}={value}" for name, value in variables.items()),
        "bash",
        "-euc",
    ]
    done = subprocess.run([*shell, "\n".join([*lines, "env"])], capture_output=True, text=True, check=True, cwd=folder)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def test_caches_of_compilers_are_on_the_node_and_the_users_alone(tmp_path: Path) -> None:
    seen = job_environment(Profile(), tmp_path, TMPDIR=str(tmp_path))
    mine = tmp_path / f"modpo-{os.getuid()}"
    assert seen["TRITON_CACHE_DIR"] == f"{mine}/triton"
    assert seen["TORCHINDUCTOR_CACHE_DIR"] == f"{mine}/inductor"
    assert seen["TORCH_EXTENSIONS_DIR"] == f"{mine}/extensions"
    assert mine.stat().st_mode & 0o077 == 0
    of_slurm = job_environment(Profile(), tmp_path, TMPDIR="/nowhere", SLURM_TMPDIR=str(tmp_path))
    assert of_slurm["TRITON_CACHE_DIR"] == f"{mine}/triton"
    own = Profile(environment={"TRITON_CACHE_DIR": "/mine"})
    assert job_environment(own, tmp_path, TMPDIR=str(tmp_path))["TRITON_CACHE_DIR"] == "/mine"
    (tmp_path / "full").write_text("no folder")
    lost = job_environment(Profile(), tmp_path, TMPDIR=str(tmp_path / "full"), SLURM_TMPDIR=str(tmp_path / "full"))
    assert lost["TRITON_CACHE_DIR"].endswith("/triton")


def test_what_a_profile_sets_reaches_the_shard_and_a_missing_module_ends_it(tmp_path: Path) -> None:
    profile = Profile(
        environment={"HF_HOME": "/scratch/a b/hf", "HF_HUB_OFFLINE": "1"}, setup=("export SEEN=$HF_HOME",), modules=()
    )
    seen = job_environment(profile, tmp_path, TMPDIR=str(tmp_path))
    assert (seen["SEEN"], seen["HF_HUB_OFFLINE"]) == ("/scratch/a b/hf", "1")
    module = f"module() {{ [ $2 != absent ] && echo $2 >> {tmp_path}/loaded; }}; export -f module"
    for name, code in (("cuda/12.4", 0), ("absent", 1)):
        profile = Profile(modules=(name,))
        lines = setup_lines(allocate(profile, load_study(REPOSITORY / "configs/demo.yaml"), STAGES[0]), profile, "jobs")
        done = subprocess.run(["bash", "-c", "\n".join([module, *lines])], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
    assert (tmp_path / "loaded").read_text() == "cuda/12.4\n"
    assert "cannot load modules of the profile: absent" in done.stderr


OVER_RAY = ["judge.executor=ray"]
SHARDED = ["alignment.training.deepspeed=configs/deepspeed/zero2.json"]


@pytest.mark.parametrize(
    ("stage", "fields", "overrides", "launcher", "tasks"),
    [
        ("verdicts", {}, [], "python", 1),
        ("verdicts", {"nodes": 2}, OVER_RAY, "ray", 1),
        ("rankings", {"launcher": "ray"}, OVER_RAY, "ray", 1),
        ("policies", {"nodes": 2, "gpus": 4}, SHARDED, "srun", 4),
        ("policies", {"nodes": 2, "gpus": 4}, [], "srun", 4),
        ("policies", {"gpus": 4}, SHARDED, "python", 1),
        ("policies", {"launcher": "srun", "gpus": 4}, SHARDED, "srun", 4),
    ],
)
def test_what_starts_a_shard_follows_from_its_nodes(
    stage: str, fields: dict[str, object], overrides: list[str], launcher: str, tasks: int
) -> None:
    profile = Profile.model_validate({"stages": {stage: fields}})
    found = allocate(profile, load_study(DEMO, overrides), stage_named(stage))
    assert (found.launcher, found.tasks_per_node) == (launcher, tasks)


def test_a_launcher_for_all_stages_is_taken_by_those_that_can() -> None:
    profile, study = Profile(launcher="srun", gpus=2), load_study(DEMO, SHARDED)
    found = {stage.name: allocate(profile, study, stage).launcher for stage in STAGES}
    assert {name for name, launcher in found.items() if launcher == "srun"} == {"conditioned", "policies"}


@pytest.mark.parametrize(
    ("stage", "fields", "overrides", "said"),
    [
        ("responses", {"nodes": 2}, [], ("nodes (of stage responses)", "2", "Take one")),
        ("verdicts", {"nodes": 2, "launcher": "python"}, OVER_RAY, ("nodes", "launcher ray")),
        ("verdicts", {"nodes": 2}, [], ("Ray cluster would idle", "judge.executor")),
        ("answers", {"launcher": "ray"}, OVER_RAY, ("launcher (of stage answers)", "'ray'", "Take python")),
        ("verdicts", {"launcher": "srun"}, [], ("cannot start such a shard", "Take ray")),
    ],
)
def test_nodes_that_would_idle_or_do_the_same_twice_are_refused(
    stage: str, fields: dict[str, object], overrides: list[str], said: tuple[str, ...]
) -> None:
    profile = Profile.model_validate({"stages": {stage: fields}})
    with pytest.raises(InputError) as caught:
        allocate(profile, load_study(DEMO, overrides), stage_named(stage))
    for words in said:
        assert words in str(caught.value)


def test_a_shard_beside_ray_takes_the_place_of_the_batch_shell_which_gets_the_signal(tmp_path: Path) -> None:
    profile = Profile.model_validate({"python": "apptainer exec m.sif python", "stages": {"verdicts": {"nodes": 2}}})
    run = Run.envisage(tmp_path / "run", load_study(DEMO, OVER_RAY))
    (text,) = sbatch_header(run, profile, Work("verdicts", run.shard_ids("verdicts"), (), ()), 1000)
    *_, command, _ = text.split("\n")
    assert command.startswith(
        f"exec bash {REPOSITORY}/slurm/ray.sh apptainer exec m.sif python -u -m modpo_hpc.launch.task"
    )
    assert "#SBATCH --signal=B:USR2@120\n" in text
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=1\n" in text
    assert "srun" not in text
    assert "export MODPO_PYTHON='apptainer exec m.sif python'\n" in text


@pytest.mark.parametrize("name", ["gpu", "gpu-preemptible"])
@pytest.mark.parametrize(("study", "gpus", "memory"), [("paper", 0, 8), ("open-small", 1, 48)])
def test_judging_gets_a_gpu_and_its_memory_where_the_study_runs_its_own_judge(
    name: str, study: str, gpus: int, memory: int
) -> None:
    """A profile that took memory from the study would leave a server of 7B parameters with that of an API's caller."""
    profile, loaded = load_profile(name), load_study(REPOSITORY / "configs" / f"{study}.yaml")
    for stage in ("rankings", "verdicts"):
        found = allocate(profile, loaded, stage_named(stage))
        assert (found.gpus, found.memory_gb) == (gpus, memory)
        assert found.partition == (profile.gpu_partition if gpus else "cpu")
    toxicity = allocate(profile, load_study(REPOSITORY / "configs" / "paper.yaml"), stage_named("toxicity"))
    assert (toxicity.gpus, toxicity.partition) == (1, profile.gpu_partition)
