from __future__ import annotations

import pytest

from modpo_hpc.cli.main import main
from modpo_hpc.launch.entry import run_shard
from modpo_hpc.run import Run
from tests.synthetic_verdicts import small_run


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with statistics, judgments of simulated raters, and a report."""
    run = small_run(tmp_path_factory.mktemp("report") / "run")
    run_shard(str(run.root), "statistics", "all")
    for words in (["sample", "--questions", "20"], ["forms", "--raters", "4"], ["simulate"], ["analyze"]):
        assert main(["human", words[0], str(run.root), *words[1:]]) == 0
    run_shard(str(run.root), "report", "all")
    return run
