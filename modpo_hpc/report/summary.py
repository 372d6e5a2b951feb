"""The first screen: what was asked, what was found with its uncertainty, and what that does not show."""

from __future__ import annotations

from typing import Any

from modpo_hpc import __version__
from modpo_hpc.judging.settings import models_asked
from modpo_hpc.report import findings, formats, sequential
from modpo_hpc.report.parts import ReportSection
from modpo_hpc.report.results import Results
from modpo_hpc.run import Run
from modpo_hpc.study import Study
from modpo_hpc.study.evaluation import SANDBOX_MARK


def title_of(run: Run) -> str:
    """What the page is called."""
    policies = {name for phase in run.study.judging.phases.values() for name in phase.policies}
    return f"{formats.title(run.study.name)}: {len(policies)} policies compared"


def summary_section(run: Run, results: Results) -> ReportSection:
    """The question, the findings of the first phase in plain words, and their limits."""
    phase = next(iter(results.phases))
    size = results.phases[phase]
    criteria = formats.listed([formats.title(name) for name in size["criteria"]])
    drawn = " drawn anew for each" if results.is_sequential else ""
    asked, there = run.study.judging.personas_per_question, size["personas"]
    personas = f"{f'{asked} of ' * (asked < there)}{there} personas{drawn}"
    lead = (
        f"The question: which of {len(size['policies'])} policies answers best by {criteria}, in the eyes of "
        f"{personas} who compare {'each with the anchors' if size.get('anchors') else 'every pair of them'} on "
        f"{size['questions']:,} questions?"
    )
    found = (
        findings.phase_findings(results, phase)
        if results.is_sequential
        else [
            *(f"What the margins did: {one}" for one in findings.placebo_findings(results, phase)),
            _first(results, phase, size["criteria"][0]),
            _against_baseline(run, results, phase),
            _front(results, phase),
        ]
    )
    limits = f"What this does not show. {' '.join(_limits(run, results))}"
    return ReportSection("summary", "What was asked, and what was found", lead, findings=[*filter(None, found), limits])


def methods_paragraph(run: Run, results: Results) -> str:
    """The methods as a paper states them, with the settings of this run and how to cite the software."""
    study, settings = run.study, results.summary["settings"]
    phases = "; ".join(
        f"{name}: {len(one['policies'])} policies, {one['pairs']} pairs, "
        f"{formats.listed([formats.title(criterion) for criterion in one['criteria']])}, "
        f"{one['questions']} questions"
        for name, one in results.phases.items()
    )
    judges = formats.listed(models_asked(study))
    ranked_by = formats.listed([formats.title(one) for one in study.criteria.rank])
    judged = (
        f"{study.judging.personas_per_question} of {study.personas.test} test personas compared pairs of policies on "
        f"each test question "
        f"({phases}), half of them in either order; the majority decides a question. We report "
        f"{findings.test_note(results)}, significant {findings.correction_note(results)}, and "
        f"{settings['confidence']:.0%} intervals from {settings['draws']:,} draws of questions and personas."
    )
    if results.is_sequential:
        judged = f"{sequential.methods_words(results)} ({phases})"
    return (
        f"From {name_of_model(study)} we drew {study.generation.responses_per_question} responses to each training "
        f"question. {study.ranking.personas_per_question} of {study.personas.train} training personas, played by "
        f"{judges}, ranked them by {ranked_by}; ranks counted {list(study.ranking.weights)}, and "
        f"the best and the worst response by votes made a preference pair. On these pairs we trained the policies "
        f"({formats.listed(list(study.alignment.policies))}; beta {study.alignment.training.beta:g}, LoRA of rank "
        f"{study.alignment.training.lora_rank}, {study.alignment.training.epochs} epochs, seed {study.seed}). "
        f"{judged} Software: modpo-hpc {__version__}, after "
        f"Beikzadeh et al. (2026), arXiv 2602.16053."
    )


def name_of_model(study: Study) -> str:
    """What the base model is called."""
    return "a tiny model of the sandbox" if study.models.base == "sandbox" else study.models.base


def _first(results: Results, phase: str, criterion: str) -> str:
    ranked = results.rows("ranking", phase=phase, criterion=criterion)
    ahead = [row for row in ranked if row["rank_low"] == 1]
    first, name = ranked[0], formats.title(criterion)
    if len(ahead) == len(ranked):
        return f"By {name} no policy is shown to be preferred to another: each of them may come first."
    rate = f"{formats.percent(first['win_rate'])} of the questions ({_interval(results, first, '')})"
    others = f"; {formats.listed([row['policy'] for row in ahead[1:]])} may be as good" if ahead[1:] else ""
    return f"By {name}, {first['policy']} is preferred most often: on average it wins {rate} against another{others}."


def _against_baseline(run: Run, results: Results, phase: str) -> str:
    policies = results.phases[phase]["policies"]
    base = next((name for name in policies if run.study.alignment.policies[name].is_baseline), None)
    best = next((name for name in results.by_policy(phase) if name != base), None)
    if base is None or best is None:
        return ""
    parts = []
    for criterion in results.phases[phase]["criteria"]:
        for row in results.rows("win_rates", phase=phase, criterion=criterion):
            if {row["policy_a"], row["policy_b"]} == {base, best}:
                side, other = ("a", "b") if row["policy_a"] == best else ("b", "a")
                told = "" if row["separated"] else ", which is not shown to be a difference"
                parts.append(
                    f"{formats.percent(row[f'win_rate_{side}'])} by {formats.title(criterion)} "
                    f"({_interval(results, row, f'{side}_')}) against {formats.percent(row[f'win_rate_{other}'])}{told}"
                )
    return (
        f"Beside the model as it was before ({base}), {best}, which has the highest average, wins {'; '.join(parts)}."
    )


def _front(results: Results, phase: str) -> str:
    rows = results.rows("pareto", phase=phase)
    front = {row["policy"]: formats.percent(row["front_probability"], 0) for row in rows if row["on_front"]}
    shares = formats.listed([f"{policy} ({share})" for policy, share in front.items()])
    names = formats.listed(list(front))
    start = (
        f"{names} has the highest average by every criterion at once, so that nothing has to be traded"
        if len(front) == 1
        else f"No policy has the highest average by every criterion: {names} make up the Pareto front"
    )
    missed = findings.beside_the_front(rows)
    more = f"; {formats.listed(missed)} may belong there, too" if missed else ""
    return f"{start}. With other questions and personas drawn, this holds in these shares of the draws: {shares}{more}."


def _limits(run: Run, results: Results) -> list[str]:
    simulated = []
    if results.mark == SANDBOX_MARK:
        simulated = ["This is the sandbox: invented people, small models, a judge of written rules; nothing is said "
                     "about people or real models."]  # fmt: skip
    elif results.mark:
        simulated = [f"A part is simulated ({results.mark.removeprefix('sandbox: ')})."]
    judges = formats.listed(models_asked(run.study))
    people = (run.root / "human" / "analysis" / "summary.json").exists()
    return [
        *simulated,
        f"The votes are those of {judges} playing personas, not of people"
        + ("; what people said stands under Judgments by people." if people else ", who were not asked."),
        f"The intervals are of other questions{'' if results.is_sequential else ' and personas'}, not of "
        f"{'other personas, ' * results.is_sequential}another training run (seed {run.study.seed} alone) or another "
        "judge.",
    ]


def _interval(results: Results, row: dict[str, Any], prefix: str) -> str:
    confidence = results.summary["settings"]["confidence"]
    bounds = formats.interval(row[f"{prefix}low"], row[f"{prefix}high"])
    return f"{confidence:.0%} interval {bounds}" if bounds else "no interval"
