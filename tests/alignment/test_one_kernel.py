"""One attention kernel a pass: on a CPU, its log-probs and gradients are those of the loop over branches.

FlexAttention itself refuses gradients on a CPU because none of its compiled kernels has them; its reference
implementation does, and is what most tests ask here. What a card gets is compiled as well: the graph that is traced
for it, with gradients, and the kernel that is generated for a CPU, without. Code made for a card is not tested by this.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn.attention import flex_attention

from modpo_hpc.alignment import one_kernel
from modpo_hpc.alignment.engine import PlainEngine
from modpo_hpc.alignment.one_kernel import WholePass, filled_up, one_kernel_is_wanted
from modpo_hpc.alignment.preflight import examine_gpu
from modpo_hpc.alignment.scorer import ResponseScorer
from modpo_hpc.alignment.trees import Tree, pack
from modpo_hpc.alignment.verification import choose_attention
from modpo_hpc.errors import InputError
from modpo_hpc.study.alignment import Training
from tests.alignment.families import FAMILIES, tiny
from tests.alignment.test_families import example, gradient, tree, with_adapter
from tests.alignment.test_preflight import study

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
TREES = [tree(), tree(9, (25, 3), 1), Tree((5,), ((6,), (7, 8)))]


@pytest.fixture(autouse=True)
def _gradients_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *_: None)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The window of each call of the one kernel."""
    made: list[Any] = []
    attend = WholePass.attend

    def counted(self: WholePass, *arguments: Any) -> Any:
        made.append(arguments[4])
        return attend(self, *arguments)

    monkeypatch.setattr(WholePass, "attend", counted)
    return made


@pytest.mark.parametrize("family", ["Llama", "Mistral with a window", "Gemma 2", "OLMo 3", "gpt-oss"])
def test_log_probs_and_gradients_are_those_of_the_loop(family: str, calls: list[Any]) -> None:
    """Grouped heads, windows on some layers, soft caps; where there are sinks, the loop is what computes."""
    one, loop = (ResponseScorer(with_adapter(tiny(FAMILIES[family]))) for _ in range(2))
    one.one_kernel = True
    packed = pack(TREES)
    slope = torch.linspace(-1, 1, len(packed.lengths))
    found, expected = one(packed), loop(packed)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    (found @ slope).backward()
    (expected @ slope).backward()
    wanted = gradient(loop)
    assert float((gradient(one) - wanted).norm() / wanted.norm()) < 1e-5
    assert len(calls) == (0 if family == "gpt-oss" else 4)
    windows = {"Llama": {None}, "Mistral with a window": {16}, "gpt-oss": set()}
    assert set(calls) == windows.get(family, {None, 16})


def test_around_bfloat16_weights_it_rounds_as_the_loop_does(calls: list[Any]) -> None:
    one, loop = (ResponseScorer(with_adapter(tiny(FAMILIES["Llama"]).to(torch.bfloat16))) for _ in range(2))
    one.one_kernel = True
    packed = pack(TREES)
    torch.testing.assert_close(one(packed), loop(packed), rtol=0.02, atol=0.3)
    assert len(calls) == 4


def test_shapes_repeat_and_little_is_filler() -> None:
    lengths = [filled_up(tokens) for tokens in range(1, 40_000)]
    assert len(set(lengths)) < 60
    assert lengths == sorted(lengths)
    assert all(tokens <= length <= max(128, tokens * 9 / 8 + 128) for tokens, length in enumerate(lengths, start=1))


def test_what_is_asked_for_is_taken_on_a_card_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not one_kernel_is_wanted()
    monkeypatch.setenv("MODPO_TREE_ATTENTION", "flex")
    assert not one_kernel_is_wanted()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert one_kernel_is_wanted()
    monkeypatch.setenv("MODPO_TREE_ATTENTION", "fast")
    with pytest.raises(InputError, match="MODPO_TREE_ATTENTION"):
        one_kernel_is_wanted()


def test_the_check_before_a_first_gpu_hour_says_which_is_taken(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, calls: list[Any]
) -> None:
    monkeypatch.setattr("modpo_hpc.alignment.engine.one_kernel_is_wanted", lambda: True)
    found = {one["name"]: one for one in examine_gpu(study(model_folder), torch.device("cpu"))}
    assert found["attention"]["verdict"] == "good"
    assert found["attention"]["message"].startswith("one kernel a pass")
    assert found["longest pass"]["verdict"] == "good"
    assert len(calls) > 2 * 4


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """What a card would be given is asked here, too; yields how many graphs were compiled, and the like."""
    kernel = one_kernel._kernel
    monkeypatch.setattr(one_kernel, "_kernel", lambda _: kernel("cuda"))
    kernel.cache_clear()
    torch.compiler.reset()
    counters.clear()
    yield counters["stats"]
    kernel.cache_clear()
    torch.compiler.reset()


# two layers, as many passes: other trees of other lengths, which are filled up to one length
PASSES = [TREES, [Tree((7, 8, 9), ((6, 4, 5), (7, 8, 3, 3))), Tree(tuple(range(5, 25)), ((6, 4) * 5, (3,)))]]


@pytest.mark.parametrize(("family", "graphs"), [("Llama", 1), ("Gemma 2", 2)])
def test_one_graph_serves_every_layer_and_every_pass_of_a_length(
    family: str, graphs: int, compiled: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole call is traced, with its gradients; a window more is a graph more, other trees are none."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    one, loop = (ResponseScorer(with_adapter(tiny(FAMILIES[family]))) for _ in range(2))
    one.one_kernel = True
    for packed in map(pack, PASSES):
        slope = torch.linspace(-1, 1, len(packed.lengths))
        (one(packed) @ slope).backward()
        (loop(packed) @ slope).backward()
        assert compiled["unique_graphs"] == graphs
    assert float((gradient(one) - gradient(loop)).norm() / gradient(loop).norm()) < 1e-5


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no compiler")
def test_a_compiled_kernel_scores_as_the_loop_does(compiled: dict[str, int]) -> None:
    one, loop = (ResponseScorer(with_adapter(tiny(FAMILIES["Llama"]))) for _ in range(2))
    one.one_kernel = True
    with torch.no_grad():
        for packed in map(pack, PASSES):
            torch.testing.assert_close(one(packed), loop(packed), rtol=1e-5, atol=1e-4)
    assert compiled["unique_graphs"] == 1


def deaf(*_: Any, **options: Any) -> Any:
    return flex_attention.flex_attention(*_, **{**options, "block_mask": None})


def flat(*arguments: Any, **options: Any) -> Any:
    """Right forwards, half of it backwards."""
    found = flex_attention.flex_attention(*arguments, **options)
    return found.detach() / 2 + found / 2


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("no kernel image is available")


@pytest.mark.parametrize(
    ("kernel", "taken", "said"),
    [
        (flex_attention.flex_attention, True, "one kernel a pass (log-probs differ by"),
        (deaf, False, "not one kernel a pass (log-probs differ by"),
        (flat, False, "not one kernel a pass (log-probs differ by"),
        (broken, False, "RuntimeError: no kernel image is available"),
    ],
)
def test_a_kernel_that_is_wrong_here_is_not_taken(
    kernel: Any, taken: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_kernel, "_kernel", lambda _: kernel)
    engine = PlainEngine(with_adapter(tiny(FAMILIES["Llama"])), Training(), torch.device("cpu"))
    engine.scorer.one_kernel = True
    assert said in choose_attention(engine, [example(tree()), example(tree(60, (9, 9)), "q2")])
    assert engine.scorer.one_kernel is taken
    assert choose_attention(engine, [example(tree())]) == "" or taken
    assert all(one.grad is None for one in engine.adapted.parameters())
