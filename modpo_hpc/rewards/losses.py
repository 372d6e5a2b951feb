"""Losses of reward models: functions of rewards."""

from __future__ import annotations

import torch
from torch import Tensor


def bradley_terry(rewards: Tensor) -> Tensor:
    """Mean negative log-likelihood that the chosen response wins (Bradley and Terry 1952).

    Args:
        rewards: shape (comparisons, responses), the chosen response first and the rejected one last; log-odds.
    """
    return -torch.nn.functional.logsigmoid(rewards[:, 0] - rewards[:, -1]).mean()


def plackett_luce(rewards: Tensor, votes: Tensor) -> Tensor:
    """Mean negative log-likelihood of a ranking's choices (Luce 1959, Plackett 1975), averaged over the rankings.

    Responses with equal votes share one risk set, as tied times do in Breslow's likelihood. With two responses this is
    ``bradley_terry``.

    Args:
        rewards: shape (comparisons, responses), any order; log-odds.
        votes: same shape; more is better; NaN where a comparison has fewer responses.

    Returns:
        For each comparison the mean over its choices among two responses or more; the mean of that over comparisons.
    """
    present = ~votes.isnan()
    risk = (votes.unsqueeze(1) <= votes.unsqueeze(2)) & present.unsqueeze(1) & present.unsqueeze(2)
    among = rewards.unsqueeze(1).expand(-1, rewards.shape[1], -1).masked_fill(~risk, -torch.inf)
    is_choice = present & (risk.sum(-1) > 1)
    terms = torch.where(is_choice, among.masked_fill(~is_choice.unsqueeze(-1), 0.0).logsumexp(-1) - rewards, 0.0)
    return (terms.sum(-1) / is_choice.sum(-1).clamp(min=1)).mean()
