"""The tables that statistics are kept in: one schema each. Rates are shares between 0 and 1."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from typing import IO, Any

import pyarrow as pa

from modpo_hpc.study import Study

Rows = list[dict[str, Any]]

_CELL = "phase criterion policy_a policy_b"
_POLICY = "phase criterion policy"
_KINDS = {
    "int": pa.int64(),
    "float": pa.float64(),
    "str": pa.string(),
    "bool": pa.bool_(),
    "strings": pa.list_(pa.string()),
    "floats": pa.list_(pa.float64()),
}


def schema_of(keys: str, **columns: str) -> pa.Schema:
    """Columns ``keys`` of text, then those of each kind by their names."""
    return pa.schema(
        (name, _KINDS[kind]) for kind, names in [("str", keys), *columns.items()] for name in names.split()
    )


SCHEMAS: dict[str, pa.Schema] = {
    "completeness": schema_of(_CELL, int="asked cast unparsed missing decided", float="lost"),
    "win_rates": schema_of(
        _CELL,
        int="questions wins_a wins_b ties",
        float="win_rate_a a_low a_high win_rate_b b_low b_high difference difference_low difference_high "
        "difference_all_low difference_all_high",
        bool="separated",
    ),
    "mcnemar": schema_of(
        _CELL,
        int="b c ties",
        float="statistic p p_holm p_bh p_chi2 p_chi2_corrected p_exact p_midp odds_ratio odds_low odds_high detectable",
        str="favours reason",
        bool="significant",
    ),
    "non_inferiority": schema_of(
        f"{_POLICY} reference",
        int="questions won lost questions_needed",
        float="margin difference low high p p_adjusted p_equivalence p_equivalence_adjusted model_low model_high",
        bool="non_inferior equivalent",
    ),
    "pareto": schema_of(
        "phase policy",
        float="mean_win_rate front_probability",
        bool="on_front",
        str="dominated_by",
    ),
    "ranking": schema_of(_POLICY, int="rank rank_low rank_high", float="win_rate low high best_probability"),
    "bradley_terry": schema_of(_POLICY, float="ability error low high ties"),
    "persona_agreement": schema_of(
        _CELL,
        int="votes",
        float="mean icc effective_votes question_variance persona_variance residual_variance",
    ),
    "position_bias": schema_of(
        _CELL,
        float="first_share low high flips flips_by_chance rate_a_first rate_a_second adjusted_a adjusted_b "
        "p p_adjusted",
        bool="changes_result",
    ),
    "length_control": schema_of(
        _CELL, float="length_a length_b win_rate controlled low high slope slope_low slope_high"
    ),
    "groups": schema_of(
        f"{_POLICY} attribute group",
        int="personas",
        float="win_rate low high overall",
        bool="favourite separated",
        str="best_here",
    ),
    "persona_rates": schema_of(f"{_POLICY} persona_id", float="win_rate low high"),
}
PANEL_SCHEMAS: dict[str, pa.Schema] = {
    "judge_agreement": schema_of(
        "phase criterion judge other_judge",
        int="votes questions",
        float="agreement kappa ac1 majority_agreement majority_kappa",
    ),
    "judge_rates": schema_of(f"{_CELL} judge", int="wins_a wins_b ties", float="win_rate_a win_rate_b"),
}
"""Tables that the verdicts of a panel give besides."""
SEQUENTIAL_SCHEMAS: dict[str, pa.Schema] = {
    "completeness": SCHEMAS["completeness"],
    "shares": schema_of(
        _CELL,
        int="questions votes decided_after wins_a wins_b ties",
        float="share low high majority_a majority_b",
        str="decision better",
    ),
    "share_ranking": schema_of(_POLICY, int="rank rank_low rank_high", float="share low high"),
}
"""The tables of a study whose judging is sequential, in place of all others."""


def schemas_of(study: Study) -> dict[str, pa.Schema]:
    """The tables that the statistics of ``study`` have."""
    if study.judging.stop == "sequential":
        return SEQUENTIAL_SCHEMAS
    return {**SCHEMAS, **(PANEL_SCHEMAS if study.panel else {})}


FRONT_SCHEMAS: dict[str, pa.Schema] = {
    "fronts": schema_of(
        "family policy criterion",
        float="weight reward low high front_probability contribution contribution_low contribution_high",
        bool="on_front",
    ),
    "families": schema_of(
        "family",
        strings="criteria",
        floats="reference",
        int="policies on_front",
        float="hypervolume low high ratio ratio_low ratio_high sparsity",
        str="beside",
    ),
    "ranges": schema_of(
        "family criterion",
        float="range specialists_range share share_low share_high tau tau_low tau_high",
    ),
}
"""Tables of the stage ``fronts``. Weights are shares, rewards on the study's scale; ``ratio`` is of the hypervolume to
that of the family ``beside``."""

_SELF_AGREEMENT = {
    "int": "answers unparsed comparisons",
    "float": "flips flips_low flips_high kappa kappa_low kappa_high order_flips order_low order_high "
    "excess excess_low excess_high noise",
}
REPEATS_SCHEMAS: dict[str, pa.Schema] = {
    "self_agreement": schema_of("judge phase criterion", **_SELF_AGREEMENT),
    "self_agreement_pairs": schema_of(f"judge {_CELL}", **_SELF_AGREEMENT),
}
"""Tables of the stage ``repeats``: see ``self_agreement.self_agreement``. ``comparisons``: with two answers to the same
that could be read, out of all ``answers``."""


def write_csv(stream: IO[str], name: str, rows: Iterable[Mapping[str, Any]], mark: str | None = None) -> None:
    """The table ``name`` as CSV; with a ``mark``, a last column carries it on every row."""
    fields = [*{**SCHEMAS, **PANEL_SCHEMAS, **SEQUENTIAL_SCHEMAS}[name].names, *(["note"] if mark else [])]
    writer = csv.DictWriter(stream, fields, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "note": mark} if mark else row)


def finite(value: Any) -> Any:
    """``value`` as JSON knows it: null for what is not defined (NaN, infinite), lists for tuples, text for keys."""
    if isinstance(value, Mapping):
        return {str(name): finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
