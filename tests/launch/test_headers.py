"""The shell lines that run in a job before its shard, in a real shell."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from modpo_hpc.launch.headers import setup_lines
from modpo_hpc.launch.profile import Profile, allocate
from modpo_hpc.pipeline import STAGES
from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY


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
