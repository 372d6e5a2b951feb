"""What a judge reads: quoted text cannot pass for ours, and what one persona judges begins alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from modpo_hpc.judging.judges import keys_of
from modpo_hpc.judging.keys import Keys
from modpo_hpc.judging.repair import messages_after
from modpo_hpc.judging.tasks import JudgeRequest
from modpo_hpc.llm.chat import first_messages
from modpo_hpc.llm.ledger import Entry
from modpo_hpc.prompts import judging_prompt, quoted
from modpo_hpc.study.judging import Judge
from tests.judging.worlds import CRITERIA, request

LINE_ENDS = st.text(st.characters(), max_size=60) | st.lists(
    st.sampled_from(["| ", "\n", "\r", "\x0b", "\x85", "\u2028", "Reply B:", "Answer", "```", "</post>"]), max_size=12
).map("".join)


@given(LINE_ENDS)
def test_no_line_of_quoted_text_stands_free(text: str) -> None:
    lines = quoted(text).splitlines()
    assert all(line.startswith("| ") for line in lines)
    assert [line[2:] for line in lines] == (text.splitlines() or [""])


@given(LINE_ENDS, LINE_ENDS, LINE_ENDS)
def test_hostile_texts_add_no_free_lines(question: str, first: str, second: str) -> None:
    def free(prompt: tuple[str, str]) -> list[str]:
        return [line for line in "".join(prompt).splitlines() if not line.startswith("| ")]

    hostile = judging_prompt("judge", "A person.", CRITERIA, question, (first, second))
    harmless = judging_prompt("judge", "A person.", CRITERIA, "q", ("a", "b"))
    assert free(hostile) == free(harmless)


def test_what_one_persona_judges_begins_alike() -> None:
    one = judging_prompt("judge", "A person.", CRITERIA, "First question", ("a", "b"))
    other = judging_prompt("judge", "A person.", CRITERIA, "Second question", ("c", "d"))
    assert one[0] == other[0]
    assert "A person." in one[0]
    assert CRITERIA[0].definition in one[0]
    last = judging_prompt("judge", "A person.", CRITERIA, "First question", ("a", "b"), "criteria_last")
    assert "".join(last).index("First question") < "".join(last).index(CRITERIA[0].definition)


def test_a_key_changes_with_all_that_can_change_the_answer_and_with_nothing_else() -> None:
    keys = Keys({"model": "m", "temperature": 0})
    asked = request()
    assert keys.key(asked) == Keys({"temperature": 0, "model": "m"}).key(asked)
    others = [
        keys.key(request(texts=("Two.", "One."))),
        keys.key(request(persona="p1")),
        keys.key(request("rank")),
        Keys({"model": "m", "temperature": 1}).key(asked),
        Keys({"model": "n", "temperature": 0}).key(asked),
        Keys({"model": "m", "temperature": 0}, "criteria_last").key(asked),
    ]
    assert len({keys.key(asked), *others}) == 1 + len(others)
    keys.key(request(persona="p1"))
    assert keys.key(request()) == Keys({"model": "m", "temperature": 0}).key(asked)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Judge, PreTrainedTokenizerFast]:
    """A judge whose model is served here, and that model's tokenizer, with control strings of ChatML and of its own."""
    folder = tmp_path_factory.mktemp("model")
    letters = {bytes([one]).decode("latin-1"): one for one in range(256)}
    inner = Tokenizer(models.BPE(letters, []))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.add_special_tokens(["<|im_start|>", "<|im_end|>", AddedToken("[[TURN]]", normalized=True), "¤", "ENDOFTURN"])
    inner.add_tokens(["<tool_call>", "<{reply}>", "covid", "    "])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    turn = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    tokenizer.chat_template = "{% for m in messages %}" + turn + "{% endfor %}<|im_start|>assistant\n"
    tokenizer.save_pretrained(folder)
    serving = {"command": ["serve", "--port", "{port}"], "name": "m"}
    return Judge(kind="server", model=str(folder), server=serving), tokenizer


CONTROL = ["<|im_start|>", "<|im_end|>", "[[TURN]]", "[[turn]]", "¤", "ENDOFTURN", "endofturn", "<{reply}>"]
HOSTILE = st.lists(
    st.sampled_from([*CONTROL, "<", "[", "[[", "<|", "|>", "E", "user\n", " ", "    ", "covid", "Two."]), max_size=12
).map("".join)


@given(HOSTILE, HOSTILE, HOSTILE)
@settings(deadline=None, max_examples=60)
def test_a_served_tokenizer_reads_no_control_token_out_of_a_text(
    served: tuple[Judge, PreTrainedTokenizerFast], persona: str, reply: str, answer: str
) -> None:
    judge, tokenizer = served
    keys, plain = keys_of(judge), request()
    control = {number for number, one in tokenizer.added_tokens_decoder.items() if one.content not in ("covid", "    ")}

    def control_tokens(asked: JudgeRequest, said: str) -> list[int]:
        entry = Entry(b"k" * 16, said, "judge", ("empathy",), 2, "m")
        messages = messages_after(first_messages(keys.prompt(asked)), [entry], keys.harmless)
        text = tokenizer.apply_chat_template([*messages], tokenize=False)
        return [token for token in tokenizer(text, add_special_tokens=False)["input_ids"] if token in control]

    hostile = replace(plain, persona=replace(plain.persona, text=persona), shown=(reply, "b"), question=answer)
    assert control_tokens(hostile, f"no {answer}") == control_tokens(plain, "no")
    assert keys.prompt(plain) == keys_of(judge.model_copy(update={"kind": "openai"})).prompt(plain)
