"""Search of hyperparameters over Optuna: one way for policies and reward models."""

from modpo_hpc.search.plan import Objective, RunningTrial, SearchPlan, Trial, as_optuna
from modpo_hpc.search.search import Search
from modpo_hpc.search.stage import best_complete, folder_of_trial, item_of, run_trial

__all__ = [
    "Objective",
    "RunningTrial",
    "Search",
    "SearchPlan",
    "Trial",
    "as_optuna",
    "best_complete",
    "folder_of_trial",
    "item_of",
    "run_trial",
]
