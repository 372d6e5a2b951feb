"""Soups: exact sums of updates, as PEFT adds them; what the SVD and averaged factors leave out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from modpo_hpc.alignment.adapter import adapter_config, adapter_weights, save_adapter
from modpo_hpc.alignment.soup import Merge, merge, read_source, update_of
from modpo_hpc.errors import InputError


def make_adapter(model_folder: Path, folder: Path, seed: int, rank: int, alpha: int, **options: object) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    settings = {"target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM", "init_lora_weights": False}
    model = get_peft_model(base, LoraConfig(r=rank, lora_alpha=alpha, **{**settings, **options}))  # type: ignore[arg-type]
    save_adapter(folder, adapter_weights(model), adapter_config(model))
    return folder


@pytest.fixture
def pair(tmp_path: Path, model_folder: Path) -> tuple[Path, Path]:
    """Two adapters of different rank and scale."""
    return (
        make_adapter(model_folder, tmp_path / "one", 1, rank=4, alpha=8),
        make_adapter(model_folder, tmp_path / "two", 2, rank=6, alpha=3),
    )


def test_the_exact_soup_is_what_peft_adds_up(pair: tuple[Path, Path], tmp_path: Path, model_folder: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    soup = merge([read_source("one", pair[0]), read_source("two", pair[1])], (0.3, 0.7))
    save_adapter(tmp_path / "soup", soup.weights, soup.config)
    ids = torch.arange(2, 40)[None]
    oracle = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), pair[0], adapter_name="one")
    oracle.load_adapter(pair[1], adapter_name="two")
    oracle.add_weighted_adapter(["one", "two"], [0.3, 0.7], "both", combination_type="cat")
    oracle.set_adapter("both")
    ours = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model_folder), tmp_path / "soup")
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, oracle(ids).logits, rtol=1e-4, atol=1e-4)
    assert soup.config["r"] == 10
    assert soup.error["largest"] < 1e-6


def test_the_svd_of_full_rank_loses_nothing_and_of_less_says_how_much(pair: tuple[Path, Path]) -> None:
    sources = [read_source("one", pair[0]), read_source("two", pair[1])]
    assert merge(sources, (0.5, 0.5), "svd", svd_rank=10).error["largest"] < 1e-5
    errors = [merge(sources, (0.5, 0.5), "svd", svd_rank=rank).error["mean"] for rank in (9, 6, 3, 1)]
    assert errors == sorted(errors)
    assert errors[0] > 1e-3
    default = merge(sources, (0.5, 0.5), "svd")
    assert default.config["r"] == 6


def test_the_svd_is_the_best_of_its_rank(pair: tuple[Path, Path]) -> None:
    sources = [read_source("one", pair[0]), read_source("two", pair[1])]
    layer = next(iter(sources[0].factors))
    total = torch.stack([0.5 * update_of(one.factors[layer], one.scale) for one in sources]).sum(0)
    best = torch.linalg.svdvals(total)[3:].norm() / total.norm()
    soup = merge(sources, (0.5, 0.5), "svd", svd_rank=3)
    ours = soup.weights[f"{layer}.lora_B.weight"] @ soup.weights[f"{layer}.lora_A.weight"]
    assert float((ours - total).norm() / total.norm()) == pytest.approx(float(best), rel=1e-3)


def test_averaged_factors_are_another_update(tmp_path: Path, model_folder: Path) -> None:
    """With weights of a half the product of averages keeps a quarter of each source, and adds their cross terms."""
    folders = [make_adapter(model_folder, tmp_path / str(seed), seed, rank=4, alpha=8) for seed in (1, 2)]
    sources = [read_source(folder.name, folder) for folder in folders]
    soup = merge(sources, (0.5, 0.5), "paper")
    layer = next(iter(sources[0].factors))
    (a1, b1), (a2, b2) = (source.factors[layer] for source in sources)
    update = 2.0 * soup.weights[f"{layer}.lora_B.weight"] @ soup.weights[f"{layer}.lora_A.weight"]
    torch.testing.assert_close(update, 2.0 * 0.25 * (b1 + b2) @ (a1 + a2))
    exact = 0.5 * 2.0 * (b1 @ a1 + b2 @ a2)
    distance = float((update - exact).norm() / exact.norm())
    assert distance > 0.2
    assert soup.error["mean"] == pytest.approx(distance, rel=0.3)
    assert merge([sources[0], sources[0]], (0.5, 0.5), "paper").error["largest"] < 1e-6


@pytest.mark.parametrize("how", ["exact", "svd", "paper"])
def test_equal_soups_are_equal_bytes(tmp_path: Path, model_folder: Path, how: Merge) -> None:
    folders = [make_adapter(model_folder, tmp_path / str(seed), seed, rank=4, alpha=8) for seed in (1, 2)]
    contents = []
    for number in range(2):
        soup = merge([read_source(folder.name, folder) for folder in folders], (0.4, 0.6), how)
        save_adapter(tmp_path / f"soup{number}", soup.weights, soup.config)
        contents.append([file.read_bytes() for file in sorted((tmp_path / f"soup{number}").iterdir())])
    assert contents[0] == contents[1]


def test_what_cannot_be_merged_is_refused(tmp_path: Path, model_folder: Path, pair: tuple[Path, Path]) -> None:
    one, two = read_source("one", pair[0]), read_source("two", pair[1])
    with pytest.raises(InputError, match="different rank or scale"):
        merge([one, two], (0.5, 0.5), "paper")
    other = make_adapter(model_folder, tmp_path / "other", 3, rank=4, alpha=8, target_modules=["q_proj"])
    with pytest.raises(InputError, match="different layers"):
        merge([one, read_source("other", other)], (0.5, 0.5))
    dora = make_adapter(model_folder, tmp_path / "dora", 3, rank=4, alpha=8, use_dora=True)
    with pytest.raises(InputError, match="parts beside plain LoRA"):
        read_source("dora", dora)
    with pytest.raises(InputError, match="no adapter here"):
        read_source("none", tmp_path / "none")
