"""The losses of the paper, as pure functions of summed log-probabilities.

A summed log-probability is that of a whole response given its prompt: fp32, over the response's tokens and the EOS
that ends it. Every loss returns one value per example and a dictionary of metrics per example, all of shape
``(batch,)``; the caller averages.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Metrics = dict[str, Tensor]
_LEAST_WEIGHT = 1e-6


def sft_loss(policy_chosen: Tensor, tokens: Tensor) -> tuple[Tensor, Metrics]:
    """Negative log-likelihood of the chosen response, per token of that response.

    Args:
        policy_chosen: summed log-probs, (batch,).
        tokens: number of tokens in each sum, EOS included, (batch,).
    """
    losses = -policy_chosen / tokens
    return losses, {"logp_chosen": policy_chosen.detach()}


def log_ratio(policy_chosen: Tensor, policy_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor) -> Tensor:
    """``h``: the policy's minus the reference's log-ratio of chosen over rejected, (batch,)."""
    return (policy_chosen - ref_chosen) - (policy_rejected - ref_rejected)


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float,
    label_smoothing: float = 0.0,
) -> tuple[Tensor, Metrics]:
    """``-log sigmoid(beta * h)`` (Rafailov et al. 2023, eq. 7); all inputs of shape (batch,).

    ``label_smoothing`` is the probability that a preference is the wrong way round (conservative DPO).
    """
    logits = beta * log_ratio(policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    losses = -F.logsigmoid(logits)
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - label_smoothing * F.logsigmoid(-logits)
    rewards = implicit_rewards(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)
    return losses, {"logit": logits.detach(), **rewards}


def modpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    margin_chosen: Tensor,
    margin_rejected: Tensor,
    weights: Tensor,
    beta: float,
) -> tuple[Tensor, Metrics]:
    """``-log sigmoid((1/w_0) [beta*h - sum_j w_j (margin_chosen_j - margin_rejected_j)])`` (eq. 1 and 2 of the paper).

    Args:
        policy_chosen, policy_rejected, ref_chosen, ref_rejected: summed log-probs of the anchor's pairs, (batch,).
        margin_chosen, margin_rejected: rewards of both responses under the other criteria, (batch, K-1).
        weights: (K,), the anchor's first; used as given, so they need not sum to one.
        beta: strength of the pull towards the reference.
    """
    beta_h = beta * log_ratio(policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    margin = (margin_chosen - margin_rejected) @ weights[1:]
    logits = (beta_h - margin) / weights[0]
    rewards = implicit_rewards(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)
    return -F.logsigmoid(logits), {"logit": logits.detach(), "weighted_margin": margin.detach(), **rewards}


def joint_dpo_loss(h: Tensor, weights: Tensor, beta: float) -> tuple[Tensor, Metrics]:
    """``-log sigmoid(beta * sum_k w_k h_k)``: the sum over criteria inside one log-sigmoid.

    Args:
        h: log-ratios of the pair of each criterion, (K, batch); see ``log_ratio``.
        weights: (K,), used as given.
        beta: strength of the pull towards the reference.
    """
    logits = beta * (weights @ h)
    return -F.logsigmoid(logits), {"logit": logits.detach()}


def weighted_dpo_loss(h: Tensor, weights: Tensor, beta: float) -> tuple[Tensor, Metrics]:
    """``sum_k w_k (-log sigmoid(beta h_k))``: the criteria's DPO losses, weighted; arguments as ``joint_dpo_loss``."""
    return weights @ -F.logsigmoid(beta * h), {"logit": (beta * (weights @ h)).detach()}


def modpo_over_anchors_loss(h: Tensor, margins: Tensor, weights: Tensor, beta: float) -> tuple[Tensor, Metrics]:
    """MODPO with each criterion as the anchor in turn, which counts as much as its weight.

    ``sum_k w_k (-log sigmoid((1/w_k) [beta*h_k - sum_{j!=k} w_j m_kj]))``. The weight before the loss takes away what
    the weight below it blows up, so that a criterion of small weight has a small say.

    Args:
        h: log-ratios of the pair of each criterion, (K, batch).
        margins: of the pair of each criterion k, what criterion j rewards the chosen response more, (K, batch, K).
        weights: (K,), zero or more.
        beta: strength of the pull towards the reference.
    """
    others = margins @ weights - torch.diagonal(margins, dim1=0, dim2=2).T * weights[:, None]
    logits = (beta * h - others) / weights.clamp_min(_LEAST_WEIGHT)[:, None]
    return weights @ -F.logsigmoid(logits), {
        "logit": (beta * (weights @ h)).detach(),
        "weighted_margin": (weights @ others).detach(),
    }


def implicit_rewards(
    policy_chosen: Tensor, policy_rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> Metrics:
    """Implicit rewards ``beta * log(policy/reference)`` of both responses."""
    chosen = beta * (policy_chosen - ref_chosen).detach()
    rejected = beta * (policy_rejected - ref_rejected).detach()
    return {
        "reward_chosen": chosen,
        "reward_rejected": rejected,
        "reward_margin": chosen - rejected,
        "accuracy": (chosen > rejected).float(),
    }
