"""What a ledger holds: size, spending, answers that cannot be read, damage. It reads, and changes nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modpo_hpc.judging.opinions import opinions_of
from modpo_hpc.judging.tasks import Unparsed
from modpo_hpc.llm import segments
from modpo_hpc.llm.ledger import entries


@dataclass
class JudgeAccount:
    """The answers of one judge. ``unparsed`` counts opinions by reason, as the parser of today reads the answers."""

    answers: int = 0
    refusals: int = 0
    opinions: int = 0
    calls: int = 0
    tokens_read: int = 0
    tokens_cached: int = 0
    tokens_written: int = 0
    usd: float = 0.0
    unparsed: Counter[str] = field(default_factory=Counter)


@dataclass
class Account:
    """A ledger, told in numbers."""

    folder: Path
    segments: int = 0
    being_written: int = 0
    bytes: int = 0
    torn: dict[str, int] = field(default_factory=dict)
    keys: int = 0
    repeated: int = 0
    judges: dict[str, JudgeAccount] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The account as JSON values."""
        return {
            **asdict(self),
            "folder": str(self.folder),
            "judges": {
                name: {**asdict(one), "unparsed": dict(one.unparsed.most_common())} for name, one in self.judges.items()
            },
        }


def audit(folder: Path) -> Account:
    """Read every answer of the ledger in ``folder`` and parse it again."""
    account = Account(folder)
    for path in segments.segments(folder):
        account.segments += 1
        account.bytes += path.stat().st_size
        writing = segments.is_locked(path)
        account.being_written += writing
        if not writing and (lost := segments.lost_bytes(path, segments.scan(path))):
            account.torn[path.name] = lost
    seen: Counter[bytes] = Counter()
    for entry in entries(folder):
        seen[entry.key] += 1
        judge = account.judges.setdefault(entry.judge, JudgeAccount())
        judge.answers += 1
        judge.refusals += entry.answer is None
        judge.calls += entry.tries
        judge.tokens_read += entry.usage.read
        judge.tokens_cached += entry.usage.cached
        judge.tokens_written += entry.usage.written
        judge.usd += entry.usage.usd
        opinions = opinions_of(entry)
        judge.opinions += len(opinions)
        judge.unparsed.update(one.reason for one in opinions if isinstance(one, Unparsed))
    account.keys = len(seen)
    account.repeated = sum(seen.values()) - len(seen)
    return account
