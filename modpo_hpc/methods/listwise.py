"""Lambda-weighted listwise DPO: every response to a question against how the personas ranked them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from modpo_hpc.methods.method import OnAllCriteria

if TYPE_CHECKING:
    from torch import Tensor

    from modpo_hpc.alignment.collator import Batch
    from modpo_hpc.alignment.losses import Metrics
    from modpo_hpc.study.alignment import Training


class ListwiseDPO(OnAllCriteria):
    """Trained so that its implicit rewards spread over all responses as the votes do (Sun et al. 2025).

    ``sum_k lambda_k CE(p_k, softmax(beta log(policy / reference)))`` (arXiv 2506.19780), the softmax over the responses
    to one question. The paper leaves ``p_k`` open; its code takes a softmax of ratings from 1 to 5. Here the ratings
    are mean ranks, which for five responses have the same range, divided by ``temperature``. The paper draws lambda
    anew at every step; here lambda is the policy's weights. Log-probs are summed as in the paper (its code divides
    them by the number of tokens).
    """

    label: ClassVar[str] = "listwise DPO"
    all_responses: ClassVar[bool] = True

    method: Literal["listwise"] = "listwise"
    temperature: float = Field(1.0, gt=0, description="mean ranks that make a nat of the votes' distribution")

    @property
    def vote_criteria(self) -> tuple[str, ...]:
        return tuple(self.criteria)

    def loss(self, batch: Batch, logps: Tensor, settings: Training) -> tuple[Tensor, Metrics]:
        weights, questions = logps.new_tensor(self.weights), batch.chosen.shape[1]
        votes = _log_shares(batch.votes.to(logps) / self.temperature, batch.example, questions)
        rewards = settings.beta * (logps - batch.reference)
        shares = _log_shares(rewards[:, None], batch.example, questions)
        losses, entropy = (
            -logps.new_zeros(questions).index_add(0, batch.example, (votes.exp() * logs) @ weights)
            for logs in (shares, votes)
        )
        divergence = (losses - entropy).detach()
        return losses, {"divergence": divergence, **batch.implicit_rewards(logps, settings.beta)}


def _log_shares(scores: Tensor, question: Tensor, questions: int) -> Tensor:
    """Log-softmax of each column of ``scores`` (R, V) among the responses to the same ``question`` (R,)."""
    place = question[:, None].expand_as(scores)
    top = scores.new_full((questions, scores.shape[1]), float("-inf")).scatter_reduce(0, place, scores.detach(), "amax")
    shifted = scores - top[question]
    total = scores.new_zeros(questions, scores.shape[1]).index_add(0, question, shifted.exp())
    return shifted - total[question].log()
