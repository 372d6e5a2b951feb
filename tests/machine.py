"""What some tests need of the machine beyond Python, and how Debian installs it.

``python -m tests.machine`` prints the packages that are missing here, with any Python and nothing installed.
"""

from __future__ import annotations

import os
import shutil
from typing import NamedTuple

_SLURM = os.environ.get("MODPO_TEST_SLURM", "")
"""Where another Slurm than that of the system is installed: the tests then take that one."""
SYSTEM_PATH = f"{_SLURM}/bin:{_SLURM}/sbin:" * bool(_SLURM) + f"{os.environ['PATH']}:/usr/sbin:/sbin"


class Need(NamedTuple):
    """Programs that stand or fall together."""

    name: str
    programs: tuple[str, ...]
    packages: tuple[str, ...]

    @property
    def missing(self) -> bool:
        return not all(shutil.which(program, path=SYSTEM_PATH) for program in self.programs)

    @property
    def reason(self) -> str:
        return f"needs {self.name}; on Debian: apt-get install -y {' '.join(self.packages)}"


SLURM = Need("Slurm", ("slurmctld", "slurmd", "sbatch", "munged"), ("slurmctld", "slurmd", "slurm-client", "munge"))
ACCOUNTING = Need("Slurm's accounting", ("slurmdbd", "mariadbd", "mariadb-install-db"), ("slurmdbd", "mariadb-server"))
CHROMIUM = Need("Chromium", ("chromium", "chromedriver"), ("chromium", "chromium-driver"))
LATEX = Need("LaTeX", ("pdflatex",), ("texlive-latex-recommended",))
ZSTD = Need("zstd", ("zstdcat",), ("zstd",))
NEEDS = (SLURM, ACCOUNTING, CHROMIUM, LATEX, ZSTD)


def packages_missing() -> str:
    """Debian's names of all that is missing here, as words for apt-get."""
    return " ".join(package for need in NEEDS if need.missing for package in need.packages)


def lacking() -> str:
    """Empty, or what is missing here with the one line that installs all of it on Debian."""
    missing = [need for need in NEEDS if need.missing]
    if not missing:
        return ""
    return (
        f"Not installed: {', '.join(need.name for need in missing)}; what needs them was skipped. On Debian:\n"
        f"apt-get install -y --no-install-recommends {packages_missing()}"
    )


if __name__ == "__main__":
    print(packages_missing())
