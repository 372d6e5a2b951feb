"""What Slurm prints, read; the graph; root causes. Texts are as Slurm 22.05, 23.11 and 26.05 print them."""

from __future__ import annotations

import math
import subprocess
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.launch import cluster, commands, doctor, drafting, fields, graph, rows, sacct, squeue, task, triage
from modpo_hpc.launch.allocation import allocate
from modpo_hpc.launch.attempts import ENDED_BY_SLURM, Attempt
from modpo_hpc.launch.profile import Profile
from modpo_hpc.launch.refusals import SubmitLimit, refusal
from modpo_hpc.launch.state import ShardState, reconcile
from modpo_hpc.pipeline import STAGES, stage_named
from modpo_hpc.study import load_study
from tests.conftest import REPOSITORY
from tests.launch import fake_slurm

QUEUE = (
    "7_2|9|RUNNING|2026-01-02T03:04:05|2026-01-02T04:04:05|n3|1-02:03:04|modpo:ab|c:x|None\n"
    "8|8|PENDING|N/A|N/A||0:00|modpo:ab|DependencyNeverSatisfied\n"
)
ACCOUNTS = (
    "7_2|9|CANCELLED by 1000|0:15|2026-01-02T03:00:00|2026-01-02T03:04:05|2026-01-02T03:05:05|60|n3|billing=2,cpu=2,gres/gpu:a100=4,mem=1G,node=1|s.r\n"  # noqa: E501
    "7_[3,5-6%2]|7|PENDING|0:0|2026-01-02T03:00:00|Unknown|Unknown|0|None assigned||s.r\n"
)


def attempt(**fields: object) -> Attempt:
    base = {
        "stage": "s",
        "shard": "0",
        "number": 1,
        "job": "7_2",
        "restarts": 0,
        "node": "n1",
        "pid": 1,
        "started": 0.0,
    }
    return Attempt(**{**base, **fields})  # type: ignore[arg-type]


def evidence(slurm: str = "FAILED", log: str = "", slurm_log: str = "", steps: tuple = (), **fields: object):
    return triage.Evidence(slurm, attempt(**fields) if fields else None, steps, slurm_log, log)


def test_squeue_and_sacct_are_read() -> None:
    running, stuck = squeue.read_queue(QUEUE)
    assert (running.job, running.raw, running.nodes, running.seconds) == ("7_2", "9", "n3", 93784)
    assert running.comment == "modpo:ab|c:x"
    assert stuck.stuck
    assert stuck.alive
    assert not running.stuck
    ended, *waiting = sacct.read_accounting(ACCOUNTS)
    assert (ended.state, ended.gpus, ended.cpus, ended.seconds, ended.alive) == ("CANCELLED", 4, 2, 60, False)
    assert [record.job for record in waiting] == ["7_3", "7_5", "7_6"]
    assert all(record.alive and not record.nodes for record in waiting)


# Every word that squeue and sacct of 22.05 or 26.05 may print for a state, and one of a Slurm to come.
STATES = {
    "waits": "PENDING REQUEUED REQUEUE_HOLD REQUEUE_FED SPECIAL_EXIT RESV_DEL_HOLD RESIZING EXPEDITING OF_TOMORROW",
    "runs": "RUNNING COMPLETING CONFIGURING SUSPENDED STOPPED SIGNALING STAGE_OUT",
    "ended": "COMPLETED CANCELLED FAILED TIMEOUT NODE_FAIL PREEMPTED BOOT_FAIL DEADLINE OUT_OF_MEMORY REVOKED",
}


@pytest.mark.parametrize(("kind", "word"), [(kind, word) for kind, words in STATES.items() for word in words.split()])
def test_a_job_counts_as_ended_only_where_slurm_says_so(kind: str, word: str) -> None:
    """What waits must never be handed in a second time."""
    (line,) = squeue.read_queue(f"7_2|9|{word}|N/A|N/A||0:00|modpo:ab|None\n")
    state = reconcile(False, False, "7_2", line, [], False)[0]
    assert line.alive == (kind != "ended")
    assert state == {"waits": "queued", "runs": "running", "ended": "failed"}[kind]
    (record,) = sacct.read_accounting(ACCOUNTS.splitlines()[1].replace("[3,5-6%2]", "3").replace("PENDING", word))
    assert record.alive == (kind != "ended")


def test_steps_tell_the_memory_that_was_asked_for_and_used() -> None:
    steps = sacct.read_steps("5|FAILED|1:0||300M|n1\n5.batch|FAILED|1:0|2172K||n1\n5.0|OUT_OF_MEMORY|0:125|1.5G||n1\n")
    assert [step.step for step in steps] == ["", "batch", "0"]
    assert steps[2].max_rss_mb == 1536
    assert steps[2].requested_mb == 300


def test_partitions_and_a_profile_are_drafted_from_sinfo() -> None:
    assert cluster.read_partitions("a|infinite\nb|10:00\nc|2-00:00:00\n") == {"a": math.inf, "b": 10, "c": 2880}
    fields = drafting.draft_profile(
        "cpu|2-00:00:00|32+|128000|(null)|cpu*\ngpu|1-00:00:00|64|512000+|gpu:a100:4(S:0-1)|gpu\n", 501, ["lab"]
    )
    assert (fields["partition"], fields["gpu_partition"], fields["account"]) == ("cpu", "gpu", "lab")
    profile = Profile.model_validate(fields)
    demo, paper = (load_study(REPOSITORY / "configs" / f"{name}.yaml") for name in ("demo", "paper"))
    given = {stage.name: allocate(profile, demo, stage) for stage in STAGES}
    assert not any(one.gpus for one in given.values()), "the tutorial's demo needs no GPU"
    assert {one.partition for one in given.values()} == {"cpu"}
    policies = next(stage for stage in STAGES if stage.name == "policies")
    assert (allocate(profile, paper, policies).gpus, allocate(profile, paper, policies).partition) == (1, "gpu")
    assert fields["limits"]["array_size"] == 501


@pytest.mark.parametrize(
    ("proof", "cause"),
    [
        (evidence("OUT_OF_MEMORY"), "oom"),
        (evidence(steps=(sacct.JobStep("5", "0", "OUT_OF_MEMORY", "0:125", None, 300),)), "oom"),
        (evidence(steps=(sacct.JobStep("5", "0", "FAILED", "0:9", 900, 300),)), "oom"),
        (evidence(slurm_log="slurmstepd: error: Step 5.0 exceeded memory limit (320 > 300), being killed"), "oom"),
        (evidence(error="MemoryError"), "oom"),
        (evidence(error="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"), "oom-gpu"),
        (evidence("TIMEOUT"), "time"),
        (evidence(error="Requeued: timeout number 4", cause="timeout, too often"), "time"),
        (evidence("NODE_FAIL"), "node"),
        (evidence(error="RuntimeError: CUDA error: uncorrectable ECC error encountered"), "node"),
        (evidence("PREEMPTED"), "preempted"),
        (evidence(slurm_log="srun: error: n2: task 0: User defined signal 2"), "preempted"),
        (evidence("CANCELLED"), "cancelled"),
        (evidence("CANCELLED", error="Requeued: ended by Slurm", cause=ENDED_BY_SLURM), "cancelled"),
        (evidence("PREEMPTED", error="Requeued: ended by Slurm", cause=ENDED_BY_SLURM), "preempted"),
        (evidence("NODE_FAIL", error="Requeued: ended by Slurm", cause=ENDED_BY_SLURM), "node"),
        (evidence("FAILED", error="Requeued: ended by Slurm", cause=ENDED_BY_SLURM), "slurm"),
        (evidence("", error="Requeued: ended by Slurm", cause=ENDED_BY_SLURM), "cancelled"),
        (evidence(error="OSError: [Errno 122] Disk quota exceeded"), "disk"),
        (evidence(error="InputError: no column", outcome="bad input"), "input"),
        (evidence(error="httpx.HTTPStatusError: 429 Too Many Requests"), "api"),
        (evidence(error="ValueError: shape"), "code"),
        (triage.Evidence("FAILED", None, (), "", "", "74:0"), "disk"),
        (evidence(slurm_log="responses 1: OSError: [Errno 28] No space left on device; see this log"), "disk"),
        (evidence(slurm_log="error: /old: this folder is no run directory (it has no study.yaml)"), "environment"),
        *(
            (evidence("FAILED", slurm_log=f"srun: error: Unable to create step for job 24: {words}"), cause)
            for words, cause in (
                ("Job/step already completing or completed", "slurm"),
                ("Job is pending execution", "slurm"),
                ("Invalid job id specified", "slurm"),
                ("Error generating job credential", "slurm"),
                ("Socket timed out on send/recv operation", "slurm"),
                ("Unable to contact slurm controller (connect failure)", "slurm"),
                ("Connection timed out reading", "slurm"),
                ("Connection refused", "slurm"),
                ("Message receive failure", "slurm"),
                ("Rate limit exceeded, please retry later", "slurm"),
                ("Slurm backup controller in standby mode", "slurm"),
                ("Required node not available (down, drained or reserved)", "node"),
                ("Protocol authentication error", "node"),
                ("Requested node configuration is not available", "environment"),
                ("Memory required by task is not available", "environment"),
                ("Task count specification invalid", "environment"),
                ("Invalid generic resource (gres) specification", "environment"),
                ("Insufficient GRES available in allocation", "environment"),
            )
        ),
        *(
            (evidence("FAILED", slurm_log=f"srun: error: Task launch for StepId=9.0 failed on node n1: {words}"), cause)
            for words, cause in (
                ("Communication connection failure", "node"),
                ("Connection refused", "node"),
                ("Socket timed out on send/recv operation", "node"),
                ("Job credential expired", "node"),
                ("Job prolog failed", "node"),
                ("Job credential revoked", "slurm"),
                ("Unable to satisfy cpu bind request", "environment"),
                ("Invalid MPI plugin name", "environment"),
            )
        ),
        *(
            (evidence("FAILED", slurm_log=words), cause)
            for words, cause in (
                ("srun: error: Slurm job 24 has expired", "slurm"),
                ("srun: error: Unable to confirm allocation for job 24: Invalid job id specified", "slurm"),
                ("srun: error: Unable to confirm allocation for job 24: Job is pending execution", "slurm"),
                ("srun: Job allocation 24 has been revoked", "slurm"),
                ("srun: error: Node failure on n3", "node"),
                (
                    "slurmstepd: error: *** JOB 24 STEPD TERMINATED ON n1 AT 2026-01-02T03:04:05 DUE TO JOB NOT ENDING",
                    "node",
                ),
                ("slurmstepd: error: Failed to invoke task plugins: one of task_p_pre_setuid functions failed", "node"),
            )
        ),
        # a step that began tells of itself, whatever srun met on the way
        (evidence("FAILED", slurm_log="srun: error: Munge encode failed: retrying", error="ValueError: shape"), "code"),
        (evidence(slurm_log="bash: /nowhere/python: No such file or directory"), "environment"),
        (evidence(slurm_log="srun: error: n1: task 0: Killed", outcome="running"), "killed"),
        (
            evidence(
                error="RuntimeError: [gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4242",
                slurm_log="srun: error: n2: task 1: Killed",
            ),
            "killed",
        ),
        (evidence(error="RuntimeError: Connection closed by peer"), "code"),
        (evidence(""), "lost"),
    ],
)
def test_the_root_cause(proof: triage.Evidence, cause: str) -> None:
    assert triage.classify(proof) == cause


def failure(node: str, shard: str, at: float) -> triage.Failure:
    return triage.Failure(ShardState("responses", shard, "failed", "9", "FAILED", node, at), "environment", "x", node)


def ended_well(node: str, at: float) -> squeue.QueueLine:
    return squeue.QueueLine("1", "1", "COMPLETED", None, at, node, 1, "", "None")


@pytest.mark.parametrize(
    ("well", "found"),
    [
        ([("n1", 5.0), ("n2", 6.0)], []),  # both fail since then: the disk is full, no node is to blame
        ([("n1", 5.0), ("n2", 15.0)], ["n1"]),  # the other one works on
    ],
)
def test_a_node_is_suspect_only_if_others_work_since(well: list[tuple[str, float]], found: list[str]) -> None:
    queue = {str(number): ended_well(*one) for number, one in enumerate(well)}
    snapshot = SimpleNamespace(records=None, queue=queue)
    failures = [failure("n1", "0", 10.0), failure("n1", "1", 11.0)]
    assert triage.suspects(snapshot, failures) == found  # type: ignore[arg-type]


def test_the_time_left_counts_waves() -> None:
    """64 shards that ended together are no pace of thousands an hour."""
    spans = [(0.0, 600.0 + number / 100) for number in range(4)]
    counts = Counter({"running": 4, "queued": 8})
    assert rows.shards_at_once(spans, 4, 4) == 4
    assert rows.seconds_left(spans, [300.0] * 4, counts, 4) == pytest.approx(300 + 2 * 600, abs=1)  # type: ignore[arg-type]
    assert rows.seconds_left([], [1.0], counts, 4) is None  # type: ignore[arg-type]
    assert rows.shards_at_once(spans, 1, 2) == 2


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        (fake_slurm.LIMIT, SubmitLimit, "AssocMaxSubmitJobLimit"),
        (fake_slurm.LIMIT.replace("AssocMaxSubmitJobLimit", "QOSMaxWallDurationPerJobLimit"), InputError, "minutes"),
        ("sbatch: error: Invalid account or account/partition combination specified", InputError, "'account'"),
    ],
)
def test_a_refusal_names_the_limit_and_not_the_account(words: str, kind: type, said: str) -> None:
    stage = next(stage for stage in STAGES if stage.name == "responses")
    allocation = allocate(Profile(), load_study(REPOSITORY / "configs" / "demo.yaml"), stage)
    found = refusal(words, "responses", allocation)
    assert type(found) is kind
    assert said in str(found)


def test_what_a_job_of_doctor_says_of_modules_and_setup() -> None:
    profile = Profile(modules=("cuda/99",), setup=("false", "true"), python="/nowhere/python")
    script = "module() { return 1; }\n" + doctor.job_script(profile, "-c 1")
    text = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    found = {one.name: one for one in doctor.read_job_output(text)}
    assert {one.verdict for one in found.values()} == {"bad"}
    assert "cuda/99" in found["in a job: modules"].message
    assert "of: false" in found["in a job: setup"].message
    assert "/nowhere/python" in found["in a job: python"].message


def test_limits_of_submission_are_read() -> None:
    found = doctor.submit_limits("lab|me|10|\nlab|||500\n", "normal||200\n")
    assert found.message.startswith("10 jobs (your lab), 200 jobs (qos normal), 500 jobs (group lab)")


def test_the_same_error_of_two_shards_is_one_group() -> None:
    one = triage.normalise("ValueError: shard 17 met 0x7f at /data/run/17.parquet of 'a b'")
    assert one == triage.normalise("ValueError: shard 8 met 0x80 at /scratch/8.parquet of 'c'")


RECORD = sacct.JobRecord("7_2", "9", "FAILED", "1:0", 1.0, 2.0, 3.0, 1, "n1", 1, 0, "s.r")


def line(state: str, reason: str = "None") -> squeue.QueueLine:
    return squeue.QueueLine("7_2", "9", state, None, None, "", 0, "", reason)


@pytest.mark.parametrize(
    ("facts", "state", "note"),
    [
        ((True, False, "7_2", None, [RECORD], False), "done", "done, although Slurm says FAILED"),
        ((True, False, "7_2", line("COMPLETING"), [], False), "done", ""),
        ((False, False, "7_2", line("COMPLETED"), [], False), "failed", "COMPLETED without a marker"),
        ((False, False, "7_2", line("PENDING", "BeginTime"), [RECORD], False), "queued", ""),
        (
            (False, False, "7_2", line("PENDING", squeue.NEVER_SATISFIED), [], False),
            "blocked",
            squeue.NEVER_SATISFIED,
        ),
        ((False, False, "7_2", None, [RECORD], True), "cancelled", ""),
        ((False, False, "7_2", None, [], False), "failed", "left the queue without a marker"),
        ((False, True, None, None, [], False), "stale", ""),
        ((False, False, None, None, None, False), "todo", ""),
    ],
)
def test_markers_outrank_squeue_and_squeue_outranks_sacct(facts: tuple, state: str, note: str) -> None:
    """A requeued job is queued, whatever its old line in sacct says."""
    found = reconcile(*facts)
    assert (found[0], found[2]) == (state, note)


def test_why_a_job_was_stopped() -> None:
    at = "2026-01-02T03:04:05"
    end = fields.instant(at)
    assert end is not None
    running = {"JobState": "RUNNING", "PreemptTime": "None", "EndTime": at}
    assert task.why_stopped(running, end - 100, 30) == "timeout"
    assert task.why_stopped(running, end - 4000, 30) == "preemption"
    assert task.why_stopped({**running, "PreemptTime": at}, end - 10, 30) == "preemption"
    assert task.why_stopped({**running, "JobState": "CANCELLED"}, end - 10, 30) == "cancelled"
    assert task.why_stopped({**running, "JobState": "COMPLETING"}, end - 10, 30) == ENDED_BY_SLURM
    assert task.why_stopped({}, end, 30) == ENDED_BY_SLURM


def test_dependencies_name_an_array_only_if_all_of_it_is_waited_for() -> None:
    assert graph.dependency(["5_0", "5_1", "7"], {"5": 2, "7": 1}) == "afterok:5:7"
    assert graph.dependency(["5_0", "7_1"], {"5": 2, "7": 2}) == "afterok:5_0:7_1"
    assert graph.dependency([], {}) is None


def test_work_is_refused_when_what_it_needs_is_nowhere() -> None:
    def needs(stage: str, _: str) -> dict[str, tuple[str, ...]]:
        return dict.fromkeys(stage_named(stage).needs, ("0", "1"))

    with pytest.raises(IncompleteError, match="rankings needs responses"):
        graph.plan_work(STAGES, {"rankings": ["0"]}, {}, {"responses": ["1"]}, needs)
    (work,) = graph.plan_work(STAGES, {"rankings": ["0"]}, {"responses": {"1": "9_1"}}, {"responses": ["1"]}, needs)
    assert work.after_jobs == ("9_1",)


@given(st.integers(1, 5000), st.integers(1, 1001), st.integers(1, 500))
def test_blocks_hold_every_shard_once_and_share_the_throttle(count: int, size: int, throttle: int) -> None:
    shards = [str(one) for one in range(count)]
    blocks = graph.split(shards, size)
    assert [one for block in blocks for one in block] == shards
    assert max(map(len, blocks)) <= size
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1
    shares = graph.share_throttle(throttle, len(blocks))
    assert min(shares) >= 1
    assert sum(shares) == max(throttle, len(blocks)) if throttle >= len(blocks) else all(one == 1 for one in shares)


@given(st.lists(st.integers(0, 40), min_size=1, unique=True))
def test_a_range_of_an_array_is_taken_apart(indices: list[int]) -> None:
    indices.sort()
    parts, start = [], 0
    for place in range(1, len(indices) + 1):
        if place == len(indices) or indices[place] != indices[place - 1] + 1:
            low, high = indices[start], indices[place - 1]
            parts.append(str(low) if low == high else f"{low}-{high}")
            start = place
    assert fields.expand_job(f"12_[{','.join(parts)}%4]") == [f"12_{index}" for index in indices]


def test_an_interactive_job_leaves_nothing_behind() -> None:
    kept = commands.clean_environment(
        {"SLURM_CPU_BIND": "x", "SLURM_JOB_ID": "1", "SBATCH_ACCOUNT": "a", "SLURM_CONF": "c", "HOME": "h"}
    )
    assert kept == {"SLURM_CONF": "c", "HOME": "h"}
