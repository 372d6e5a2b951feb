"""Which sections the report of a run has; a section without data is left out."""

from __future__ import annotations

from modpo_hpc.report.audit import audit_section
from modpo_hpc.report.fronts import fronts_section
from modpo_hpc.report.human import human_section
from modpo_hpc.report.parts import ReportSection
from modpo_hpc.report.people import people_section
from modpo_hpc.report.personalization import personalization_section
from modpo_hpc.report.phases import phase_section
from modpo_hpc.report.repeats import repeats_section
from modpo_hpc.report.results import Results
from modpo_hpc.report.rewards import rewards_section
from modpo_hpc.report.robustness import certainty_section, groups_section, length_section
from modpo_hpc.report.study import cost_section, provenance_section, study_section
from modpo_hpc.report.summary import summary_section
from modpo_hpc.report.toxicity import toxicity_section
from modpo_hpc.report.training import training_section
from modpo_hpc.run import Run


def sections_of(run: Run, results: Results) -> list[ReportSection]:
    """The sections in the order of reading."""
    sections = [
        summary_section(run, results),
        *(phase_section(results, phase) for phase in results.phases),
        fronts_section(run),
        certainty_section(results),
        repeats_section(run),
        length_section(results),
        groups_section(results),
        personalization_section(run),
        human_section(run),
        audit_section(run),
        toxicity_section(run),
        people_section(run),
        training_section(run),
        rewards_section(run),
        study_section(run, results),
        cost_section(run),
        provenance_section(run),
    ]
    return [section for section in sections if section is not None]
