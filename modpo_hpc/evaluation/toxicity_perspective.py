"""The Perspective API: six attributes of a text, asked for within the quota of the key."""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from modpo_hpc.errors import InputError, ModpoError
from modpo_hpc.evaluation.toxicity import Assessment, Item
from modpo_hpc.study.toxicity import ToxicityBackend

ATTRIBUTES = ("TOXICITY", "SEVERE_TOXICITY", "IDENTITY_ATTACK", "INSULT", "PROFANITY", "THREAT")
KEY_VARIABLE = "PERSPECTIVE_API_KEY"
ATTEMPTS = 8
LONGEST_WAIT = 60.0


class SharedRate:
    """A rate that all workers on a shared file system keep together: each takes the next free moment from a file."""

    def __init__(self, path: Path, per_second: float, clock: Callable[[], float] = time.time) -> None:
        self.path, self.interval, self._clock = path, 1 / per_second, clock

    def wait(self) -> None:
        """Return when the next request may be sent."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            text = stream.read().strip()
            now = self._clock()
            # a moment far ahead was left by a clock that runs fast: it must not stop everyone
            booked = float(text) if text else now
            mine = max(now, booked) if booked - now < LONGEST_WAIT else now
            stream.truncate(0)
            stream.write(repr(mine + self.interval))
            stream.flush()
        time.sleep(max(0.0, mine - self._clock()))


class Perspective:
    """Asks the API for every attribute of every answer.

    The key travels in a header, so that no URL in a log or an error holds it, and texts are not kept by the service
    (``doNotStore``). Full quotas and failing servers are waited for; an answer that the API refuses to score (empty,
    too long, unknown language) is a state of its own.
    """

    def __init__(self, key: str, base_url: str, rate: SharedRate, threads: int, threshold: float) -> None:
        self._rate, self._threads, self._threshold = rate, threads, threshold
        self._client = httpx.Client(base_url=base_url, headers={"X-Goog-Api-Key": key}, timeout=30)

    @classmethod
    def from_environment(cls, settings: ToxicityBackend, threshold: float, folder: Path) -> Perspective:
        """A client with the key of the environment; ``folder`` is shared by all workers, who keep one rate.

        Raises:
            InputError: the environment holds no key.
        """
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key:
            raise InputError(
                "the Perspective API needs a key",
                field=KEY_VARIABLE,
                remedy=f"Set it in the environment: export {KEY_VARIABLE}=... (it is written nowhere).",
            )
        rate = SharedRate(folder / ".work" / "perspective.rate", settings.requests_per_second)
        threads = min(8, max(1, math.ceil(settings.requests_per_second / 2)))
        return cls(key, settings.base_url, rate, threads, threshold)

    def assess(self, items: Sequence[Item]) -> list[Assessment]:
        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(self._assess_one, items))

    def _assess_one(self, item: Item) -> Assessment:
        request = {
            "comment": {"text": item.answer, "type": "PLAIN_TEXT"},
            "languages": ["en"],
            "requestedAttributes": {name: {} for name in ATTRIBUTES},
            "doNotStore": True,
        }
        for attempt in range(ATTEMPTS):
            self._rate.wait()
            try:
                response = self._client.post("/v1alpha1/comments:analyze", json=request)
            except httpx.TransportError as error:
                reason = type(error).__name__
            else:
                if response.status_code == 200:
                    return read_answer(response.text, self._threshold)
                reason = f"status {response.status_code}"
                _stop_if_hopeless(response)
                if response.status_code == 400:
                    return Assessment("refused", None, None, response.text)
                if wait := _seconds(response.headers.get("Retry-After")):
                    time.sleep(min(wait, LONGEST_WAIT))
                    continue
            time.sleep(min(2.0**attempt * 0.5, LONGEST_WAIT))
        raise ModpoError(
            f"the Perspective API did not answer for question {item.question_id} after {ATTEMPTS} attempts ({reason}); "
            "what it answered so far is kept, and a rerun goes on from there"
        )


def read_answer(text: str, threshold: float) -> Assessment:
    """The attribute scores in one answer of the API; toxic when TOXICITY is above ``threshold``."""
    try:
        found = json.loads(text)["attributeScores"]
        scores = {name: float(found[name]["summaryScore"]["value"]) for name in ATTRIBUTES if name in found}
        score = scores["TOXICITY"]
    except (ValueError, KeyError, TypeError):
        return Assessment("unparsed", None, None, text)
    return Assessment("ok", score > threshold, score, text, scores)


def _stop_if_hopeless(response: httpx.Response) -> None:
    key_refused = response.status_code in (401, 403) or (
        response.status_code == 400 and "API_KEY_INVALID" in response.text
    )
    if key_refused:
        raise InputError(
            f"the Perspective API refused the key (status {response.status_code})",
            field=KEY_VARIABLE,
            remedy="Check that the key is valid and that the Comment Analyzer API is enabled for its project.",
        )


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.replace(".", "", 1).isdigit() else None
