"""Backends against a stand-in of the API, a tiny classifier and a tiny language model made on the spot."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from modpo_hpc.errors import InputError, Interrupted, ModpoError
from modpo_hpc.evaluation.toxicity import Item
from modpo_hpc.evaluation.toxicity_models import Citizen, Classifier, read_verdict, toxic_labels
from modpo_hpc.evaluation.toxicity_perspective import ATTRIBUTES, KEY_VARIABLE, Perspective, read_answer
from modpo_hpc.evaluation.toxicity_words import Words
from modpo_hpc.llm.budget import RateLimits
from modpo_hpc.study.endpoint import Endpoint
from modpo_hpc.study.toxicity import ToxicityBackend

KEY = "not-a-real-key"


class StandIn(ThreadingHTTPServer):
    """Answers as the Perspective API does; ``script`` holds statuses to give first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[int] = []
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, dict(self.headers), body))
        status = self.server.script.pop(0) if self.server.script else 200
        text = body["comment"]["text"]
        if not text:
            status = 400
        score = 0.9 if "stupid" in text else 0.1
        answer = {
            "attributeScores": {
                name: {"summaryScore": {"value": score if name == "TOXICITY" else score / 2}}
                for name in body["requestedAttributes"]
            }
        }
        content = json.dumps(answer if status == 200 else {"error": {"code": status}}).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "0.1")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[StandIn]:
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def items(*answers: str) -> list[Item]:
    return [Item(f"q{place}", "I feel low.", answer) for place, answer in enumerate(answers)]


def perspective(api: StandIn, folder: Path, monkeypatch: pytest.MonkeyPatch, rate: float = 1000.0) -> Perspective:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    settings = ToxicityBackend(kind="perspective", base_url=api.address, requests_per_second=rate)
    return Perspective.from_environment(settings, 0.5, folder)


def test_perspective_asks_for_six_attributes_and_keeps_the_raw_answer(
    api: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, harsh, empty = perspective(api, tmp_path, monkeypatch).assess(items("It is hard.", "You are stupid.", ""))
    assert (kind.toxic, kind.score) == (False, 0.1)
    assert (harsh.toxic, harsh.score) == (True, 0.9)
    assert set(harsh.attributes) == set(ATTRIBUTES)
    assert json.loads(harsh.raw)["attributeScores"]["INSULT"]["summaryScore"]["value"] == 0.45
    assert (empty.state, empty.toxic) == ("refused", None)
    path, headers, body = api.seen[0]
    assert KEY not in path
    assert headers["X-Goog-Api-Key"] == KEY
    assert body["doNotStore"] is True
    assert set(body["requestedAttributes"]) == set(ATTRIBUTES)


def test_perspective_waits_for_quota_and_failing_servers(
    api: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.script = [429, 503]
    (made,) = perspective(api, tmp_path, monkeypatch).assess(items("It is hard."))
    assert made.state == "ok"
    assert len(api.seen) == 3


def test_perspective_gives_up_with_words_and_never_with_a_score(
    api: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = perspective(api, tmp_path, monkeypatch)
    impatient = Perspective(
        Endpoint(base_url=api.address, outage_minutes=0.02), RateLimits(), tmp_path, 0.5, lambda: None
    )
    api.script = [503] * 1000
    with pytest.raises(ModpoError, match=r"no answer for 0\.02 minutes"):
        impatient.assess(items("It is hard."))
    api.script = [403]
    with pytest.raises(InputError, match="refused the key") as caught:
        asked.assess(items("It is hard."))
    assert KEY not in str(caught.value)
    api.script = [404]
    with pytest.raises(InputError, match="no Perspective API answers here"):
        asked.assess(items("It is hard."))
    monkeypatch.delenv(KEY_VARIABLE)
    with pytest.raises(InputError, match="needs a key"):
        Perspective.from_environment(ToxicityBackend(kind="perspective"), 0.5, tmp_path)


def test_a_shard_that_is_to_stop_does_not_wait_for_an_api_that_is_away(
    api: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise Interrupted("asked to stop")

    monkeypatch.setenv(KEY_VARIABLE, KEY)
    api.script = [503] * 1000
    settings = ToxicityBackend(kind="perspective", base_url=api.address, requests_per_second=1000)
    with pytest.raises(Interrupted):
        Perspective.from_environment(settings, 0.5, tmp_path, stop).assess(items("It is hard."))


def test_the_rate_is_kept_by_all_workers_together(
    api: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assessors = [perspective(api, tmp_path, monkeypatch, rate=10.0) for _ in range(3)]
    workers = [
        threading.Thread(target=one.assess, args=(items(*["It is hard."] * 4),), daemon=True) for one in assessors
    ]
    began = time.time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(api.seen) == 12
    # the first may go at once, eleven wait a tenth of a second each
    assert time.time() - began >= 11 / 10 - 0.02


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"attributeScores": {"INSULT": {"summaryScore": {"value": 0.2}}}}',
        '{"attributeScores": {"TOXICITY": {"summaryScore": {"value": NaN}}}}',
        '{"attributeScores": {"TOXICITY": {"summaryScore": {"value": "17"}}}}',
        "<html>",
        "[" * 100_000,
    ],
    ids=["nothing", "no scores", "not toxicity", "not a number", "no probability", "a page", "deep"],
)
def test_an_answer_of_the_api_that_says_nothing_is_unparsed(text: str) -> None:
    assert read_answer(text, 0.5).state == "unparsed"
    assert read_answer(text, 0.5).raw == text


@pytest.mark.parametrize(
    ("text", "state", "toxic"),
    [
        ("YES", "ok", True),
        ("The statement is not harmful. NO", "ok", False),
        ("It mocks the person.\nYES\n\nNO wait", "ok", True),
        ("YES or NO", "unparsed", None),
        ("I cannot say.", "unparsed", None),
        ("", "unparsed", None),
    ],
)
def test_verdicts_are_read_as_the_benchmark_reads_them(text: str, state: str, toxic: bool | None) -> None:
    made = read_verdict(text)
    assert (made.state, made.toxic, made.raw) == (state, toxic, text)


def test_words_of_the_sandbox() -> None:
    kind, one, two = Words(0.5).assess(items("It is hard.", "Do not be an IDIOT.", "You stupid idiot."))
    assert (kind.score, one.score, two.toxic) == (0.0, 0.5, True)
    assert (kind.toxic, one.toxic) == (False, False)


def tiny_tokenizer(folder: Path, words: list[str], longest: int = 64, **special: str) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate([*special.values(), *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=special["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=longest, **special)
    fast.save_pretrained(folder)
    return fast


def test_any_text_classifier_of_the_hub(tmp_path: Path) -> None:
    """A tiny DistilBERT taught in a moment to tell two words apart, saved and loaded by its folder's name."""
    import torch
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(tmp_path, ["kind", "harsh", "you", "are"], unk_token="[UNK]", pad_token="[PAD]")
    config = DistilBertConfig(
        vocab_size=len(tokenizer),
        dim=16,
        hidden_dim=16,
        n_layers=1,
        n_heads=2,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
        id2label={0: "non-toxic", 1: "toxic"},
        label2id={"non-toxic": 0, "toxic": 1},
    )
    model = DistilBertForSequenceClassification(config)
    texts, labels = ["you are kind", "you are harsh"], torch.tensor([0, 1])
    batch = tokenizer(texts, return_tensors="pt")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(tmp_path)
    settings = ToxicityBackend(kind="classifier", model=str(tmp_path), batch_size=2)
    backend = Classifier.load(settings, 0.5)
    made = backend.assess(items("you are kind", "you are harsh", "you are harsh " * 100))
    assert [one.toxic for one in made[:2]] == [False, True]
    assert made[1].score == pytest.approx(made[1].attributes["toxic"], abs=1e-6)
    assert sum(made[0].attributes.values()) == pytest.approx(1, abs=1e-5)
    assert json.loads(made[2].raw)["cut"] is True
    from transformers import pipeline

    theirs = pipeline("text-classification", model=str(tmp_path), device="cpu")("you are harsh", top_k=None)
    assert made[1].score == pytest.approx(next(one["score"] for one in theirs if one["label"] == "toxic"), abs=1e-4)


def test_labels_that_do_not_say_what_is_toxic_are_refused() -> None:
    names = {0: "LABEL_0", 1: "LABEL_1"}
    with pytest.raises(InputError, match="LABEL_0, LABEL_1"):
        toxic_labels(names, ToxicityBackend(kind="classifier", model="x"))
    assert toxic_labels(names, ToxicityBackend(kind="classifier", model="x", toxic_labels=("LABEL_1",))) == [1]
    with pytest.raises(InputError):
        toxic_labels(names, ToxicityBackend(kind="classifier", model="x", toxic_labels=("LABEL_1", "LABEL_2")))
    with pytest.raises(InputError, match="could not be loaded"):
        Classifier.load(ToxicityBackend(kind="classifier", model="/no/such/folder"), 0.5)


def test_a_language_model_is_asked_in_the_format_of_the_benchmark(tmp_path: Path) -> None:
    """A tiny Mistral: what it says is noise, but prompt, greedy decoding and the raw answer are the real ones."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    words = ["YES", "NO", "harmful", "statement", "I", "feel", "low", "It", "is", "hard", "."]
    tokenizer = tiny_tokenizer(tmp_path, words, longest=512, unk_token="<unk>", eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MistralConfig(
        vocab_size=len(tokenizer), num_key_value_heads=2, eos_token_id=tokenizer.eos_token_id, bos_token_id=None, **size
    )
    model = MistralForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    settings = ToxicityBackend(kind="citizen", model=str(tmp_path), max_tokens=8, batch_size=2)
    backend = Citizen.load(settings)
    made = backend.assess(items("It is hard.", "hard hard", "It is hard."))
    assert made[0] == made[2]
    for one, answer in zip(made, ("It is hard.", "hard hard"), strict=False):
        prompt = tokenizer(backend_prompt(answer), return_tensors="pt", add_special_tokens=False)
        prompt.pop("token_type_ids", None)
        theirs = model.generate(**prompt, do_sample=False, max_new_tokens=8, pad_token_id=tokenizer.pad_token_id)
        text = tokenizer.decode(theirs[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        assert one.raw == text


def backend_prompt(answer: str) -> str:
    from modpo_hpc.prompts import HARM_FORMAT

    assert "YES" in HARM_FORMAT
    return HARM_FORMAT.format(context="I feel low.", statement=answer, reply="NA")
