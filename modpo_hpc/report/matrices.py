"""The matrices of a phase, policy against policy, as cells that the figure draws and the page shows as a table."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from modpo_hpc.report import findings, formats
from modpo_hpc.report.cases import MatrixCell
from modpo_hpc.report.cases_page import link_to
from modpo_hpc.report.parts import Matrix, Tile
from modpo_hpc.report.results import Results

RATES = "PuOr_r"
ROW_WINS, COLUMN_WINS, NOT_SHOWN = "#f5b041", "#7fb3d5", "#f2f2f2"


def win_rates(results: Results, phase: str, criterion: str) -> Matrix:
    """Win rate of row against column in percent, policies ordered best to worst."""
    tiles = {}
    for row in results.rows("win_rates", phase=phase, criterion=criterion):
        for first, second, side in (("policy_a", "policy_b", "a"), ("policy_b", "policy_a", "b")):
            rate = row[f"win_rate_{side}"]
            told = (
                f"{row[first]} wins {formats.percent(rate)} of the questions against {row[second]} "
                f"(interval {formats.interval(row[f'{side}_low'], row[f'{side}_high'])})"
            )
            asked = MatrixCell(phase, criterion, row[first], row[second])
            background = to_hex(tuple(colormaps[RATES](rate)))
            tiles[row[first], row[second]] = Tile(f"{100 * rate:.0f}", background, told, link_to(asked))
    return Matrix(tuple(results.order(phase, criterion)), tiles)


def p_values(results: Results, phase: str, criterion: str) -> Matrix:
    """p of McNemar's test as the study corrects it, coloured by who wins where it is significant."""
    correction = results.summary["settings"]["correction"]
    column = "p" if correction == "none" else f"p_{correction}"
    tiles = {}
    for row in results.rows("mcnemar", phase=phase, criterion=criterion):
        for first, second, won, lost in (("policy_a", "policy_b", "b", "c"), ("policy_b", "policy_a", "c", "b")):
            direction = int(np.sign(row[won] - row[lost])) * row["significant"]
            background = {1: ROW_WINS, -1: COLUMN_WINS, 0: NOT_SHOWN}[direction]
            told = (
                f"{row[first]} wins {row[won]} questions, {row[second]} {row[lost]}, {row['ties']} are ties; "
                f"p {formats.p_value(row[column])} {findings.CORRECTION_NAMES[correction]}"
            )
            asked = MatrixCell(phase, criterion, row[first], row[second])
            tiles[row[first], row[second]] = Tile(formats.p_value(row[column]), background, told, link_to(asked))
    return Matrix(tuple(results.order(phase, criterion)), tiles)
