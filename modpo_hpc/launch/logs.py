"""Find the logs of attempts, and follow them as they grow."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from modpo_hpc.errors import IncompleteError
from modpo_hpc.launch.attempts import attempt_number, attempted_shards, slurm_log_of
from modpo_hpc.launch.state import take_snapshot
from modpo_hpc.launch.submissions import read_journal
from modpo_hpc.run import Run

POLL_SECONDS = 0.5
POLLS_A_LOOK = 8


@dataclass
class Tail:
    """A log and how far it has been read.

    The file is opened anew for each look: on a network filesystem that is what brings what another node has written.
    """

    path: Path
    prefix: str
    offset: int = 0
    _rest: bytes = field(default=b"", repr=False)

    def read(self) -> list[str]:
        """The whole lines written since the last look."""
        try:
            with open(self.path, "rb") as stream:
                if os.fstat(stream.fileno()).st_size < self.offset:
                    self.offset, self._rest = 0, b""
                stream.seek(self.offset)
                new = stream.read()
        except FileNotFoundError:
            return []
        self.offset += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        return [self.prefix + line.decode("utf-8", "replace") for line in lines]


def ended_shards(run: Run, stage: str) -> set[str]:
    """The shards of ``stage`` of which nothing more is to come: those that are done, have failed, were cancelled, or
    wait for what has failed. A shard that was killed says nothing itself: Slurm, or the process table, does."""
    snapshot = take_snapshot(run)
    going_on = {"running", "queued", "unknown"}
    if any(one.state in going_on for states in snapshot.shards.values() for one in states.values()):
        going_on |= {"todo", "stale"}  # modpo run begins them when what they need is there
    return {shard for shard, one in snapshot.shards[stage].items() if one.state not in going_on}


def find_log(run: Run, stage: str, shard: str, attempt: int | None = None) -> Path | None:
    """The log of the newest attempt at a shard, or of attempt number ``attempt``; None if there is none."""
    logs = {attempt_number(path): path for path in (run.logs / stage / shard).glob("attempt_*.out")}
    return logs.get(max(logs, default=0) if attempt is None else attempt)


def slurm_logs(run: Run, stage: str, names: Sequence[str]) -> dict[str, Path]:
    """Shard -> Slurm's log of the job that holds it last, which is all there is where the shard never began."""
    jobs = read_journal(run).latest(stage)
    logs = {shard: slurm_log_of(Path(jobs[shard][0].folder), jobs[shard][1]) for shard in names if shard in jobs}
    return {shard: log for shard, log in logs.items() if log.exists()}


def shards_with_logs(run: Run, stage: str) -> list[str]:
    """The shards of ``stage`` that were ever attempted or have a log of Slurm's, in canonical order."""
    shards = run.shard_ids(stage)
    begun = attempted_shards(run.logs, stage) | slurm_logs(run, stage, shards).keys()
    return [shard for shard in shards if shard in begun]


def tails(run: Run, stage: str, names: Sequence[str], attempt: int | None, wait: bool = False) -> list[Tail]:
    """One tail a shard; with several, each line says whose it is. With ``wait`` a log may still be to come.

    Raises:
        IncompleteError: there is no such log.
    """
    found = []
    for shard in names:
        log = find_log(run, stage, shard, attempt)
        if log is None and attempt is None:
            log = slurm_logs(run, stage, [shard]).get(shard)
        if log is None and not wait:
            which = f"attempt {attempt}" if attempt is not None else "attempt"
            raise IncompleteError(
                f"{stage} {shard} has had no {which} yet. Where it stands: modpo status {run.quoted} --shards {stage}"
            )
        log = log or run.logs / stage / shard / f"attempt_{attempt or 1}.out"
        found.append(Tail(log, f"[{shard}] " if len(names) > 1 else ""))
    return found


def lines_so_far(sources: Sequence[Tail], pattern: re.Pattern[str] | None) -> Iterator[str]:
    """All lines written until now, shard by shard."""
    for source in sources:
        yield from (line for line in source.read() if pattern is None or pattern.search(line))


def follow(
    run: Run, stage: str, names: Sequence[str], pattern: re.Pattern[str] | None, sources: Sequence[Tail]
) -> Iterator[str]:
    """New lines as they come, also of attempts that begin meanwhile, until all shards have ended, well or badly."""
    current = dict(zip(names, sources, strict=True))
    for looks in itertools.count():
        # Slurm is asked now and then only; a log is read all the time.
        ended = ended_shards(run, stage).intersection(names) if looks % POLLS_A_LOOK == 0 else set()
        for shard in names:
            newest = find_log(run, stage, shard)
            yield from lines_so_far([current[shard]], pattern)
            if newest is not None and newest != current[shard].path:
                current[shard] = Tail(newest, current[shard].prefix)
                yield from lines_so_far([current[shard]], pattern)
        if len(ended) == len(names):
            return
        time.sleep(POLL_SECONDS)
