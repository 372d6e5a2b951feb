"""The rehearsal on a real Slurm: handed in, carried out by jobs, and read by the same command afterwards."""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml

from modpo_hpc.launch.profile import Profile, light
from tests.slurm.conftest import Cluster
from tests.study_for_rehearsal import SMALL

pytestmark = pytest.mark.slow


def test_a_rehearsal_takes_partitions_and_set_up_of_the_profile_but_no_gpu() -> None:
    profile = Profile.model_validate(
        {"account": "a", "setup": ["x"], "gpus": 1, "stages": {"policies": {"partition": "gpu", "gpus": 8, "cpus": 64}}}
    )
    lighter = light(profile)
    assert (lighter.account, lighter.setup, lighter.gpus) == ("a", ("x",), None)
    assert lighter.stages["policies"].partition == "gpu"
    assert lighter.stages["policies"].gpus is lighter.stages["policies"].cpus is None


def states_of_jobs() -> dict[str, str]:
    """State by job of everything this cluster has run, other tests' jobs among it."""
    told = subprocess.run(["sacct", "-nPX", "-o", "jobid,state"], capture_output=True, text=True, check=True).stdout
    return dict(line.split("|", 1) for line in told.splitlines())


def test_a_study_is_rehearsed_on_slurm_to_its_last_table(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MODPO_JOBS")
    study, run = cluster.folder / "small.yaml", cluster.folder / "rehearsal"
    study.write_text(yaml.safe_dump(SMALL))
    typed = ("rehearse", study, "--run", run, "--profile", cluster.folder / "profile.yaml")

    refused = cluster(*typed, "--set", "resources.policies.gpus=64")
    assert refused[0] == 2, "Slurm judges the jobs of the real study"
    assert "of stage policies" in refused[1]
    assert not run.joinpath("statistics").exists()

    before = states_of_jobs()
    code, output = cluster(*typed)
    assert code == 3, output
    assert "type the same again" in output
    cluster.run_dir = run
    cluster.wait_until_idle()
    code, output = cluster(*typed, "--json")
    assert code == 0, output + cluster("triage", run)[1]
    found = json.loads(output)
    assert found["counts"]["verdicts"] == 1 * 6 * 50 * 2
    assert found["tasks"] == sum(one["shards"] for one in found["costs"])
    ours = {job: state for job, state in states_of_jobs().items() if job not in before}
    assert ours
    assert "FAILED" not in ours.values()
    assert "McNemar" in cluster("results", run)[1]
