"""A controller that hangs while it takes a job, and one that is away."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.slurm.conftest import Cluster
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.slow


def has_sent(process: Path, port: int) -> bool:
    """Whether what the process of that file has sent waits, unread, on ``port`` of this machine."""
    try:
        fds = Path(f"/proc/{process.read_text().strip()}/fd")
        sockets = {os.readlink(one) for one in fds.iterdir()}
    except OSError:
        return False
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    mine = {row[1] for row in rows if f"socket:[{row[9]}]" in sockets}
    return any(row[2] in mine and row[1].endswith(f":{port:04X}") and int(row[4].partition(":")[2], 16) for row in rows)


def test_a_controller_that_hangs_in_mid_submit_and_then_is_away_leaves_no_ghost_and_ends_no_command(
    cluster: Cluster,
) -> None:
    bed, shim, real = cluster.bed, cluster.folder / "bin", shutil.which("sbatch")
    controller = bed._pids()["slurmctld"]["pid"]
    shim.mkdir()
    (shim / "sbatch").write_text(
        f'#!/bin/bash\n[ "$1" = --test-only ] && exec {real} "$@"\n'
        f'kill -STOP {controller}; echo $$ > {shim}/pid; exec {real} "$@"\n'
    )
    (shim / "sbatch").chmod(0o755)
    cluster.fate("questions", "all", "hold")
    profile = cluster.folder / "profile.yaml"
    typed = [sys.executable, "-m", "modpo_hpc", "submit", cluster.study, "--run", cluster.run_dir, "--profile", profile]
    hanging = {**os.environ, "PATH": f"{shim}:{os.environ['PATH']}"}
    cluster.wait_until_empty()
    dying = subprocess.Popen([*typed, "--until", "questions"], env=hanging, cwd=REPOSITORY, start_new_session=True)
    try:
        wait_until(lambda: has_sent(shim / "pid", bed.values["controller_port"]))
        os.killpg(dying.pid, signal.SIGKILL)
    finally:
        os.kill(controller, signal.SIGCONT)
    dying.wait(PATIENCE)

    def queue() -> list[str]:
        return cluster.slurm("squeue", "-h", "-r", "-o", "%i").split()

    cluster.wait_for_slurm(queue)
    (ghost,) = queue()
    assert cluster.submit("--until", "questions", "--json").strip() == "[]"
    assert queue() == [ghost]
    assert cluster.shards("questions")["all"]["job"] == ghost
    cluster.wait(lambda: cluster.status()["questions"]["running"] == 1)

    bed._end("slurmctld")
    code, output = cluster("status", cluster.run_dir)
    assert code == 4
    assert "From the markers alone" in output
    seen, said = cluster.folder / "watched", cluster.folder / "submitted"
    watch = [sys.executable, "-m", "modpo_hpc", "status", str(cluster.run_dir), "--watch"]
    with open(seen, "w") as shown, open(said, "w") as told:
        watching = subprocess.Popen(watch, env={**os.environ, "FORCE_COLOR": "1"}, cwd=REPOSITORY, stdout=shown)
        waiting = subprocess.Popen([*typed, "--until", "responses"], cwd=REPOSITORY, stdout=told, stderr=told)
    try:
        wait_until(lambda: "From the markers alone" in seen.read_text() and "asked again" in said.read_text())
    finally:
        bed._spawn("slurmctld", "-D", "-f", str(bed.conf))
    assert waiting.wait(PATIENCE) == 0, said.read_text()
    assert watching.poll() is None
    cluster.mercy()
    assert watching.wait(PATIENCE) == 3, "stages were left out"
    done = {stage: one["done"] for stage, one in cluster.status().items()}
    assert (done["questions"], done["responses"]) == (1, 8)
