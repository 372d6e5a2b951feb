"""Control strings of a served model, as its own tokenizer knows them: none may be read out of a quoted text."""

from __future__ import annotations

import json
import logging
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from modpo_hpc.prompts import without_control_strings

log = logging.getLogger(__name__)

TOKENIZER = "tokenizer.json"


@lru_cache(maxsize=16)
def control_strings_of(model: str) -> tuple[str, ...]:
    """The strings that the tokenizer of ``model`` takes whole and that ``prompts`` does not break already.

    Args:
        model: a folder, or a name whose files are in the hub's cache on this machine.
    """
    file = _tokenizer_file(model)
    if file is None:
        log.warning("no %s of %s is here: control strings of common models alone are made harmless", TOKENIZER, model)
        return ()
    added = json.loads(file.read_text(encoding="utf-8")).get("added_tokens") or []
    control = {token["content"] for token in added if _is_control(token)}
    return tuple(sorted(text for text in control if without_control_strings(text) == text))


def broken(text: str, control: tuple[str, ...]) -> str:
    """``text`` with a space in each of the strings ``control``, whatever their case; a single character goes."""
    return _pattern(control).sub(_apart, text) if control else text


def _apart(found: re.Match[str]) -> str:
    return f"{found[0][0]} {found[0][1:]}" if len(found[0]) > 1 else " "


def _is_control(token: dict[str, Any]) -> bool:
    """Whether an added token is no mere word, and no run of blanks, of the vocabulary."""
    text = token["content"].strip()
    return bool(text) and (bool(token.get("special")) or not text.isalnum())


@lru_cache(maxsize=16)
def _pattern(control: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(control, key=len, reverse=True))), re.IGNORECASE)


def _tokenizer_file(model: str) -> Path | None:
    if (folder := Path(model).expanduser()).is_dir():
        return file if (file := folder / TOKENIZER).is_file() else None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, TOKENIZER)
    return Path(found) if isinstance(found, str) else None
