"""What a kind of judge is: all that the rest of the project asks of it stands on the object, in one file."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from modpo_hpc.judging.job import JudgingJob
from modpo_hpc.judging.opinions import Judgment, Tally, form_of, judgment_of
from modpo_hpc.judging.tasks import JudgeRequest
from modpo_hpc.llm.claims import Claims
from modpo_hpc.llm.ledger import Entry
from modpo_hpc.study.judging import Judge

if TYPE_CHECKING:
    from modpo_hpc.run import Run, Shard

Judgments = list[Judgment | None]
BATCH = 8192


class JudgeKind(ABC):
    """A way to get judgments. It has no state: settings come with each call."""

    name: ClassVar[str]
    """The word by which ``judge.kind`` names it."""
    texts_leave: ClassVar[bool]
    """Whether personas and answers go to machines that are not those of the study."""
    paid: ClassVar[bool]
    """Whether a call costs money, at ``judge.price``."""
    simulated: ClassVar[bool] = False
    """Whether its opinions are invented: whatever comes of them is marked."""
    serves: ClassVar[bool] = False
    """Whether it runs ``judge.model`` in the job, and needs its weights."""

    @abstractmethod
    def identity(self, settings: Judge) -> Mapping[str, Any]:
        """All of ``settings`` that can change an answer besides the prompt, as JSON values: part of each ledger key."""

    @abstractmethod
    def ask(self, job: JudgingJob, run: Run, shard: Shard) -> tuple[Judgments, Tally]:
        """The judgments that ``job`` asks for, in order, and what they took."""

    def check(self, settings: Judge, environment: Mapping[str, str]) -> None:
        """Refuse to start where it cannot work.

        Raises:
            InputError: no key, no address, a setting that it does not take.
        """
        return

    def control_strings(self, settings: Judge) -> tuple[str, ...]:
        """What the tokenizer of the model takes for control, where it is known, besides what ``prompts`` breaks."""
        return ()

    def claims(self, folder: Path, name: str) -> Claims:
        """The claims on the ledger in ``folder`` under which the shard ``name`` asks."""
        return Claims(folder)

    @property
    def source_sha256(self) -> str:
        """Hash of the file that defines it: another file may judge otherwise."""
        return hashlib.sha256(Path(inspect.getfile(type(self))).read_bytes()).hexdigest()


def asking_name(run: Run, shard: Shard, settings: Judge) -> str:
    """A name for what ``shard`` asks this judge, the same for every attempt and unlike that of any other."""
    whose = "." + settings.name.replace("/", "-") if run.study.panel else ""
    return f"{run.provenance.get('id', 'run')}.{shard.stage.name}.{shard.id}{whose}"


class LocalJudge(JudgeKind):
    """A judge that answers in this process, many requests at once, without a model behind HTTP.

    Its answers are functions of ``identity`` and of the request alone: not of the batch, the order or the clock.
    """

    texts_leave = False
    paid = False

    def identity(self, settings: Judge) -> Mapping[str, Any]:
        return {"judge": self.name, "source": self.source_sha256, **settings.extra}

    @abstractmethod
    def answer(self, requests: Sequence[JudgeRequest], settings: Judge) -> list[str]:
        """One raw answer for each request, in order: a JSON object as text, as ``tasks.answer_schema`` has it."""

    def ask(self, job: JudgingJob, run: Run, shard: Shard) -> tuple[Judgments, Tally]:
        requests, ledger = job.requests, job.store.ledger
        judgments: Judgments = [None] * len(requests)
        tally = Tally()
        for numbers in job.batches(BATCH):
            wanted = {number: job.keys.key(requests[number]) for number in numbers if job.is_open(number)}
            tally.not_asked += len(numbers) - len(wanted)
            known = ledger.find(list(wanted.values()))
            tally.from_ledger += sum(key in known for key in wanted.values())
            missing = {key: requests[number] for number, key in wanted.items() if key not in known}
            answers = self.answer(list(missing.values()), job.settings)
            new = [
                Entry(key, answer, request.task, form_of(request), len(request.shown), self.name)
                for (key, request), answer in zip(missing.items(), answers, strict=True)
            ]
            ledger.append(new)
            known.update((entry.key, entry) for entry in new)
            for number, key in wanted.items():
                judgments[number] = judgment = judgment_of((known[key],))
                tally.count(judgment)
                job.on_judgment(number, judgment)
            job.on_progress(tally)
            job.check()
        return judgments, tally
