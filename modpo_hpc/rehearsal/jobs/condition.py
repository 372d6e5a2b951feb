"""Stand-in: a folder without weights."""

from __future__ import annotations

from modpo_hpc.rehearsal.standins import write_folder

condition = write_folder
