from __future__ import annotations

import pytest

from modpo_hpc.study import Study
from tests.synthetic_verdicts import small_study


@pytest.fixture(scope="session")
def study() -> Study:
    return small_study()
