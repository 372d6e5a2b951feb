"""Methods of alignment: one file each. What a method is: ``modpo_hpc.methods.method``."""

from modpo_hpc.methods.method import Diagnosis, Merged, Method, Trained
from modpo_hpc.methods.registry import METHODS, known_methods, name_of

__all__ = ["METHODS", "Diagnosis", "Merged", "Method", "Trained", "known_methods", "name_of"]
