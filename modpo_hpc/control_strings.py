"""Control strings: what a tokenizer makes control tokens of, so that a post that holds one would speak as the template.

Every text of others that a model reads passes through here: a space inside the string makes words of it.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

TOKENIZER = "tokenizer.json"

_CONTROL = re.compile(
    r"<(?=\|[^<>|\s]{1,40}\|>|/?s>|/?(?:start|end)_of_(?:turn|text|image)>|/?(?:bos|eos|pad|unk|think|tool_call)>|/?<SYS>>"
    r"|｜[^<>\s]{1,40}｜>)|\[(?=/?(?:INST|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\])"
)
"""The first character of what chat templates have for control strings: Llama, Qwen, Gemma, Mistral, DeepSeek, Phi."""


def without_control_strings(text: str) -> str:
    """``text`` with a space in every control string of chat models, so that no tokenizer makes control of it."""
    return _CONTROL.sub(r"\g<0> ", text)


@lru_cache(maxsize=16)
def control_strings_of(model: str) -> tuple[str, ...]:
    """The strings that the tokenizer of ``model`` takes whole and that ``without_control_strings`` leaves.

    Args:
        model: a folder, or a name whose files are in the hub's cache on this machine.
    """
    file = _tokenizer_file(model)
    if file is None:
        log.warning("no %s of %s is here: control strings of common models alone are made harmless", TOKENIZER, model)
        return ()
    added = json.loads(file.read_text(encoding="utf-8")).get("added_tokens") or []
    return _not_common((token["content"], bool(token.get("special"))) for token in added)


@lru_cache(maxsize=4)
def control_strings_in(tokenizer: Any) -> tuple[str, ...]:
    """The same of a ``tokenizer`` that is loaded."""
    return _not_common((token.content, token.special) for token in tokenizer.added_tokens_decoder.values())


def harmless(text: str, control: tuple[str, ...]) -> str:
    """``text`` with neither the strings ``control`` nor those of common models in it."""
    return without_control_strings(broken(text, control))


def _not_common(added: Iterable[tuple[str, bool]]) -> tuple[str, ...]:
    """Of ``added`` tokens, each with whether it is special, those for control that are not broken in any case."""
    control = {text for text, special in added if _is_control(text.strip(), special)}
    return tuple(sorted(text for text in control if without_control_strings(text) == text))


def broken(text: str, control: tuple[str, ...]) -> str:
    """``text`` with a space in each of the strings ``control``, whatever their case; a single character goes."""
    return _pattern(control).sub(_apart, text) if control else text


def _apart(found: re.Match[str]) -> str:
    return f"{found[0][0]} {found[0][1:]}" if len(found[0]) > 1 else " "


def _is_control(text: str, special: bool) -> bool:
    """Whether an added token is no mere word, and no run of blanks, of the vocabulary."""
    return bool(text) and (special or not text.isalnum())


@lru_cache(maxsize=16)
def _pattern(control: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))), re.IGNORECASE)


def _tokenizer_file(model: str) -> Path | None:
    if (folder := Path(model).expanduser()).is_dir():
        return file if (file := folder / TOKENIZER).is_file() else None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, TOKENIZER)
    return Path(found) if isinstance(found, str) else None
