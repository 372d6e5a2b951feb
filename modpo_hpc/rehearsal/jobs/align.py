"""Stand-in: a folder without weights."""

from __future__ import annotations

from modpo_hpc.rehearsal.standins import write_folder

align = write_folder
