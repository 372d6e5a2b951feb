"""The study in words, what it cost, and where its numbers come from."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from itertools import chain
from typing import Any

from modpo_hpc.core.code import stages_of_different_code
from modpo_hpc.core.markers import Marker, digest, read_marker
from modpo_hpc.core.snapshots import drift_of_judges
from modpo_hpc.judging.settings import models_asked
from modpo_hpc.methods import Method, Trained
from modpo_hpc.pipeline import STAGES
from modpo_hpc.report import findings, formats
from modpo_hpc.report.parts import ReportSection, Shown, number, table, text
from modpo_hpc.report.results import Results
from modpo_hpc.report.summary import methods_paragraph, name_of_model
from modpo_hpc.run import Run
from modpo_hpc.study import Study
from modpo_hpc.study.evaluation import SANDBOX_MARK

DECIDED = {
    False: "and the majority decides",
    True: "and a pair is judged until the mean share of their votes decides it, or all questions were asked",
}
SPENT = {"calls": "calls", "tokens_read": "tokens read", "tokens_written": "tokens written", "usd": "US dollars"}
COUNTED = ("seconds", "cpu_hours", "gpu_hours", "again", *SPENT)
"""Columns of :func:`costs` that are added up over the stages."""


def study_section(run: Run, results: Results) -> ReportSection:
    """What was done, in sentences and facts."""
    study = run.study
    policies = study.alignment.policies
    trained = sum(policy.stage is not None for policy in policies.values())
    sentences = [
        f"{len(policies)} policies answer: {trained} of them are aligned from {name_of_model(study)}, "
        f"{len(policies) - trained} answer as they are. For each test question the personas of the test set say which "
        f"of two answers they prefer, {DECIDED[results.is_sequential]}.",
        f"To align them, {study.ranking.personas_per_question} training personas ranked "
        f"{study.generation.responses_per_question} responses to every training question by "
        f"{formats.listed([*map(formats.title, study.criteria.rank)])}; the best and the worst by their votes are the "
        "preference pairs.",
    ]
    if results.mark:
        sentences.insert(0, _simulation_words(results.mark))
    rows = [[name, policy.described, _made_of(policy)] for name, policy in policies.items()]
    columns = [text("Policy"), text("Method"), text("Criteria and weights (anchor first), or sources")]
    return ReportSection(
        "study",
        "How it was done",
        facts=_facts(study, results),
        findings=sentences,
        tables=[Shown("The policies", columns, rows, "policies")],
        paste={"The methods as a paragraph": methods_paragraph(run, results)},
    )


def cost_section(run: Run) -> ReportSection:
    """Time, machines and money by stage."""
    stages = costs(run)
    total = {name: sum(one[name] for one in stages) for name in COUNTED}
    findings = [
        f"{total['cpu_hours']:.2f} CPU hours and {total['gpu_hours']:.2f} GPU hours for what is in this report."
    ]
    if any(total[name] for name in SPENT):
        findings.append(
            "Judging took " + formats.listed([f"{_amount(name, total[name])}" for name in SPENT if total[name]]) + "."
        )
    columns = [
        text("Stage", "stage"),
        number("shards", str, "shards"),
        number("rows", lambda rows: f"{rows:,}" if rows != "" else "", "rows"),
        number("work", _duration, "seconds"),
        number("longest shard", _duration, "longest"),
        number("CPU hours", "{:.2f}".format, "cpu_hours"),
        number("GPU hours", "{:.2f}".format, "gpu_hours"),
        number("after a first failure", str, "again"),
    ]
    rows = [*stages, {"stage": "all", "shards": "", "rows": "", "longest": math.nan, **total}]
    caption = "Work of the finished shards; attempts that died are not in it"
    return ReportSection("cost", "Cost", findings=findings, tables=[table(caption, columns, rows, "cost")])


def costs(run: Run) -> list[dict[str, Any]]:
    """A row a stage that has made something, from the markers of its finished shards; the report itself is left out."""
    rows = []
    for stage in STAGES:
        markers = list(_markers(run, stage.name).values())
        if not markers or stage.name == "report":
            continue
        seconds = sum(marker.seconds for marker in markers)
        resources = stage.resources(run.study)
        rows.append(
            {
                "stage": stage.name,
                "shards": len(markers),
                "rows": sum(marker.rows for marker in markers),
                "seconds": seconds,
                "longest": max(marker.seconds for marker in markers),
                "cpu_hours": seconds * resources.cpus * resources.nodes / 3600,
                "gpu_hours": seconds * resources.gpus * resources.nodes / 3600,
                "again": sum(marker.attempt > 1 for marker in markers),
                **{name: sum(marker.metrics.get(name, 0.0) for marker in markers) for name in SPENT},
            }
        )
    return rows


def provenance_section(run: Run) -> ReportSection:
    """Where the numbers come from: versions, hosts, and a hash of what every stage made."""
    provenance = run.provenance
    markers = {stage.name: _markers(run, stage.name) for stage in STAGES if stage.name != "report"}
    every = [marker for of_stage in markers.values() for marker in of_stage.values()]
    facts = {
        "Run": str(provenance.get("id", "")),
        "Started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(provenance.get("created", 0))),
        "modpo-hpc": str(provenance.get("modpo_hpc", "")),
        "Python": str(provenance.get("python", "")),
        "Machine": str(provenance.get("machine", "")),
        "Hosts": ", ".join(sorted({marker.host for marker in every})),
        "Code": "; ".join(sorted({_code(marker.code) for marker in every})),
        "Different code": "; ".join(stages_of_different_code(run)) or "no stage mixes results of different code",
        "Packages": ", ".join(f"{name} {version}" for name, version in provenance.get("versions", {}).items()),
    }
    columns = [
        text("Stage", "stage"),
        number("shards", str, "shards"),
        text("SHA-256 of the outputs, first 16 digits", "digest"),
    ]
    rows = [
        {"stage": name, "shards": len(of_stage), "digest": digest(of_stage.values())[:16]}
        for name, of_stage in markers.items()
        if of_stage
    ]
    return ReportSection(
        "provenance",
        "Provenance",
        "The frozen study file is study.yaml in the run directory.",
        facts=facts,
        findings=drift_of_judges(run),
        tables=[table("What every stage made", columns, rows, "provenance", folded=True)],
    )


def _code(code: Mapping[str, str]) -> str:
    changed = " with changes" if code.get("changed") == "yes" else ""
    commit = f", commit {code['commit']}{changed}" if "commit" in code else ""
    return f"{code.get('version', 'unknown')} ({code.get('digest', '?')}{commit})"


def _simulation_words(mark: str) -> str:
    if mark == SANDBOX_MARK:
        return (
            "This is the sandbox: invented participants, small models, a judge that follows written rules. It shows "
            "that the study runs and how it reads, and says nothing about people or about real models."
        )
    parts = mark.removeprefix("sandbox: ")
    return f"A part of this study is simulated ({parts}), so that its results say nothing about people."


def _facts(study: Study, results: Results) -> dict[str, str]:
    criteria = dict.fromkeys(chain.from_iterable(one["criteria"] for one in results.phases.values()))
    questions = max(one["questions"] for one in results.phases.values())
    personas = study.judging.personas_per_question
    return {
        "Base model": name_of_model(study),
        "Judge": "; ".join(
            f"{judge.kind}: {model}" for judge, model in zip(study.judges, models_asked(study), strict=True)
        ),
        **({"Verdicts counted together": " ".join(results.mixed_judges)} if results.mixed_judges else {}),
        "Seed": str(study.seed),
        "Test": f"{questions:,} questions, {personas} personas on each, {len(results.phases)} phases",
        "Criteria judged": formats.listed([*map(formats.title, criteria)]),
        "Statistics": "confidence sequences of the mean share of votes, at "
        f"{study.statistics.alpha:g} over the pairs of a phase and criterion (Bonferroni)"
        if results.is_sequential
        else f"{findings.test_note(results)}; significance {findings.correction_note(results)}; "
        f"{study.statistics.draws:,} draws of other questions and personas",
    }


def _made_of(policy: Method) -> str:
    named = formats.title if isinstance(policy, Trained) else str
    return ", ".join(f"{named(name)} {weight:g}" for name, weight in policy.made_of.items())


def _amount(name: str, value: float) -> str:
    return f"${value:,.2f}" if name == "usd" else f"{value:,.0f} {SPENT[name]}"


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _markers(run: Run, stage: str) -> dict[str, Marker]:
    found = {shard: read_marker(run.folder(stage), shard) for shard in run.shard_ids(stage)}
    return {shard: marker for shard, marker in found.items() if marker is not None}
