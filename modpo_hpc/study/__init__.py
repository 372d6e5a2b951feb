"""The study file: one typed model of everything that is to be done."""

from modpo_hpc.study.file import differences, load_frozen_study, load_study, parse_study
from modpo_hpc.study.model import Study

__all__ = ["Study", "differences", "load_frozen_study", "load_study", "parse_study"]
