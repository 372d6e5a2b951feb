"""Scoring by several criteria, from the obvious way to ours: each step's share of the gain, on the same texts.

Every contender reads the same texts and gives the same rewards (the largest difference is printed). The models are
loaded before the clock starts, except where a contender says that it loads them. The limit is no contender: it is the
passes of the encoder over as many tokens in the same batches, all of a batch equally long and made before the clock
starts, so that nothing but unpadded arithmetic is timed.
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, RobertaConfig

from modpo_hpc.rewards.encoding import Encoded, batches_by_length, collate, encode_responses
from modpo_hpc.rewards.model import RewardModel, load_reward_model, predict
from modpo_hpc.sandbox.compose import every_sentence
from tests.bench.measuring import cpu_seconds

CRITERIA, LONGEST, BATCH, SCORE_TOKENS = 3, 512, 16, 16384
BASELINE = "one at a time, padded"
LIMIT = "the encoder alone, no token of padding"


@dataclass(frozen=True)
class Shape:
    """The dimensions of a RoBERTa, and how many responses are scored with it."""

    width: int
    layers: int
    heads: int
    vocabulary: int
    responses: int


SHAPES = {
    "width of RoBERTa-base": Shape(768, 2, 12, 50265, 60),
    "the sandbox's encoder": Shape(64, 2, 4, 1500, 300),
}


@dataclass(frozen=True)
class Texts:
    """Questions and responses of posts and replies, five responses to a question."""

    questions: dict[str, str]
    responses: dict[str, str]
    question_of: dict[str, str]


def network(shape: Shape, seed: int = 0, dropout: float = 0.0) -> Any:
    """A classifier with random weights."""
    torch.manual_seed(seed)
    return AutoModelForSequenceClassification.from_config(
        RobertaConfig(  # type: ignore[call-arg]
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            intermediate_size=4 * shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            max_position_embeddings=LONGEST + 2,
            type_vocab_size=1,
            pad_token_id=1,
            num_labels=1,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


def invented_texts(tokenizer: Any, responses: int) -> Texts:
    """Sentences of the sandbox whose tokens are log-normal: a question of 50 in the median, a response of 90."""
    rng = np.random.default_rng(0)
    sentences = list(every_sentence())

    def of_length(median: float, longest: int) -> str:
        wanted, text = min(longest, int(median * rng.lognormal(0, 0.6))), ""
        while len(tokenizer(text)["input_ids"]) < wanted:
            text += " " + sentences[int(rng.integers(len(sentences)))]
        return text.strip()

    questions = {f"q{at}": of_length(50, 180) for at in range(-(-responses // 5))}
    question_of = {f"q{at // 5}.r{at % 5}": f"q{at // 5}" for at in range(responses)}
    return Texts(questions, {one: of_length(90, 300) for one in question_of}, question_of)


def measure(name: str, tokenizer: Any, folder: Path, rounds: int) -> dict[str, Any]:
    """CPU milliseconds for a response and a criterion by each contender, and how many times ``BASELINE`` is that."""
    shape = SHAPES[name]
    folders = [folder / f"{shape.width}.{number}" for number in range(CRITERIA)]
    for number, one in enumerate(folders):
        network(shape, number).save_pretrained(one)
    texts = invented_texts(tokenizer, shape.responses)
    ways = contenders(folders, tokenizer, texts)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    rewards: dict[str, np.ndarray] = {}
    for number in range(rounds):
        for way, score in ways.items():
            spent, rewards[way] = cpu_seconds(score)
            seconds[way].append(spent / rewards[way].size)
            print(f"{name}, round {number + 1}: {way}: {1000 * seconds[way][-1]:.2f} ms", flush=True)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    loading = statistics.median(cpu_seconds(lambda: load_reward_model(folders[0], 1))[0] for _ in range(rounds))
    truth = rewards[BASELINE]
    lengths = [len(one.ids) for one in encoded(tokenizer, texts).values()]
    return {
        "cpu_ms_for_a_response_and_criterion": {way: round(1000 * value, 3) for way, value in medians.items()},
        "times_the_obvious_way": {way: round(medians[BASELINE] / value, 2) for way, value in medians.items()},
        "times_the_obvious_way_that_loads_the_model_each_time": round(
            (medians[BASELINE] + loading) / medians["ours"], 1
        ),
        "cpu_ms_to_load_a_model": round(1000 * loading, 1),
        "share_of_the_limit": round(medians[LIMIT] / medians["ours"], 3),
        "tokens_that_are_no_padding": round(share_of_tokens(lengths), 3),
        "largest_difference_of_a_reward": {
            way: float(np.abs(found - truth[: len(found)]).max()) for way, found in rewards.items() if way != LIMIT
        },
        "mean_tokens": round(statistics.mean(lengths), 1),
        "responses": shape.responses,
        "criteria": CRITERIA,
    }


def contenders(folders: Sequence[Path], tokenizer: Any, texts: Texts) -> dict[str, Callable[[], np.ndarray]]:
    """Name -> a function that gives rewards of shape (criteria, responses), texts to tokens included."""
    cpu = torch.device("cpu")
    plain = [AutoModelForSequenceClassification.from_pretrained(one).eval() for one in folders]
    models = [load_reward_model(one, 1, precision="float32", device=cpu) for one in folders]
    halves = [load_reward_model(one, 1, precision="bfloat16", device=cpu) for one in folders]

    def alone(**padding: Any) -> np.ndarray:
        """As a script does it: transformers alone, a run for each criterion."""
        return np.array([[_one(model, tokenizer, texts, one, padding) for one in texts.question_of] for model in plain])

    def in_batches(of: Sequence[RewardModel], by_length: bool) -> np.ndarray:
        rows = list(encoded(tokenizer, texts).values())
        given = [range(at, min(at + BATCH, len(rows))) for at in range(0, len(rows), BATCH)]
        batches = batches_by_length([len(row.ids) for row in rows], SCORE_TOKENS) if by_length else given
        return np.array([predict(model, rows, batches) for model in of])

    rows = list(encoded(tokenizer, texts).values())
    batches = batches_by_length([len(row.ids) for row in rows], SCORE_TOKENS)
    equal = without_padding(rows, batches)
    return {
        BASELINE: lambda: alone(padding="max_length"),
        "one at a time": alone,
        "batches as they come": lambda: in_batches(models, by_length=False),
        "ours": lambda: in_batches(models, by_length=True),
        LIMIT: lambda: np.array([predict(model, equal, batches) for model in models]),
        "ours, all criteria stacked": lambda: stacked(models, list(encoded(tokenizer, texts).values())),
        "ours, bfloat16": lambda: in_batches(halves, by_length=True),
    }


def without_padding(rows: Sequence[Encoded], batches: Sequence[Sequence[int]]) -> list[Encoded]:
    """Rows with as many tokens in each of ``batches``, to rounding, of which all in a batch are equally long."""
    equal = list(rows)
    for batch in batches:
        length = round(statistics.mean(len(rows[at].ids) for at in batch))
        for at in batch:
            equal[at] = Encoded(np.resize(rows[at].ids, length), None, np.ones(length, dtype=np.int8))
    return equal


def share_of_tokens(lengths: Sequence[int]) -> float:
    """Tokens of texts among those that the batches hold."""
    batches = batches_by_length(lengths, SCORE_TOKENS)
    return sum(lengths) / sum(len(batch) * max(lengths[at] for at in batch) for batch in batches)


@torch.inference_mode()
def stacked(models: Sequence[RewardModel], rows: Sequence[Encoded]) -> np.ndarray:
    """All criteria in one pass: their weights stacked, each matrix product a batched one over the models."""
    skeleton = copy.deepcopy(models[0].network).to("meta")
    parameters, buffers = torch.func.stack_module_state([one.network for one in models])

    def rewards(weights: Any, constants: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        logits: torch.Tensor = torch.func.functional_call(skeleton, (weights, constants), kwargs=inputs).logits
        return logits[:, 0]

    every = torch.vmap(rewards, in_dims=(0, 0, None))
    result = np.empty((len(models), len(rows)))
    for batch in batches_by_length([len(row.ids) for row in rows], SCORE_TOKENS):
        inputs = collate([rows[at] for at in batch], models[0].pad_id, models[0].device)
        result[:, batch] = every(parameters, buffers, inputs).numpy()
    return result


def encoded(tokenizer: Any, texts: Texts) -> dict[str, Encoded]:
    """What our scoring reads, cut as it cuts."""
    whole = encode_responses(tokenizer, texts.questions, texts.responses, texts.question_of)
    return {one: row.cut(LONGEST) for one, row in whole.items()}


@torch.no_grad()
def _one(model: Any, tokenizer: Any, texts: Texts, response: str, padding: dict[str, Any]) -> float:
    question = texts.questions[texts.question_of[response]]
    options = {"truncation": "only_first", "max_length": LONGEST, "return_tensors": "pt", **padding}
    return float(model(**tokenizer(question, texts.responses[response], **options)).logits[0, 0])
