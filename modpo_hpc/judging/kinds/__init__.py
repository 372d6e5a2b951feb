"""Kinds of judges: one file each. What a kind is: ``modpo_hpc.judging.kinds.kind``."""

from modpo_hpc.judging.kinds.kind import JudgeKind, LocalJudge
from modpo_hpc.judging.kinds.registry import JUDGE_KINDS, judge_kind

__all__ = ["JUDGE_KINDS", "JudgeKind", "LocalJudge", "judge_kind"]
