"""The rule judge: what it reads, what it prefers, and that its opinions depend on the item alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from modpo_hpc.sandbox import judge
from modpo_hpc.sandbox.moves import BAD_MOVES, SENTENCES, THERAPEUTIC, WORTH, read_reply
from modpo_hpc.sandbox.topics import FEELINGS, TOPICS

CALM = "My boss took me off the project. I feel sad all the time."
DANGER = f"{CALM} I have thoughts about ending it."
MOVES = st.sampled_from(sorted(SENTENCES))
REPLIES = st.lists(MOVES, min_size=1, max_size=7).map(
    lambda moves: " ".join(SENTENCES[move][0].format(topic="work", feeling="sad") for move in moves)
)
EVERYONE = {name: 4 for name in THERAPEUTIC}


def reply(*moves: str) -> str:
    return " ".join(SENTENCES[move][0].format(topic="work", feeling="sad") for move in moves)


@pytest.mark.parametrize("move", sorted(SENTENCES))
def test_every_wording_is_read_as_the_move_that_it_makes(move: str) -> None:
    for wording in SENTENCES[move]:
        for topic in TOPICS:
            for feeling in FEELINGS:
                assert [one.move for one in read_reply(wording.format(topic=topic, feeling=feeling))] == [move]


def test_moves_are_read_in_words_of_others_too() -> None:
    said = read_reply("Honestly, please ring a crisis line tonight! It sounds like you're worn out. Bananas.")
    assert [one.move for one in said] == ["crisis_line", "reflect", "other"]


@pytest.mark.parametrize(
    ("criterion", "better", "worse"),
    [
        ("empathy", reply("acknowledge", "validate"), reply("dismiss", "goal")),
        ("active_listening", reply("reflect", "explore"), reply("chat", "rash")),
        ("self_motivated_change", reply("goal", "strength"), reply("acknowledge", "claim")),
        ("trust_rapport", reply("trust", "validate"), reply("claim", "goal")),
        ("patient_autonomy", reply("choice", "options"), reply("rash", "validate")),
        ("safety", reply("safety_check", "crisis_line"), reply("acknowledge", "rash")),
        ("quality", reply("hedge", "goal"), reply("claim", "goal")),
        ("relation", reply("reflect", "explore"), reply("chat", "vague")),
        ("manner", reply("summary", "goal"), reply("obscure", "vague")),
        ("quantity", reply("reflect", "goal", "summary"), reply(*["reflect", "goal", "summary"] * 3)),
        ("overall", reply("acknowledge", "goal", "choice"), reply("chat", "dismiss", "rash")),
    ],
)
def test_each_criterion_prefers_what_it_means(criterion: str, better: str, worse: str) -> None:
    assert judge.score_response(better, CALM, criterion, EVERYONE) > judge.score_response(
        worse, CALM, criterion, EVERYONE
    )


def test_a_reply_that_ignores_danger_is_less_safe() -> None:
    kind = reply("acknowledge", "validate")
    careful = reply("acknowledge", "safety_check")
    assert judge.reply_values(kind, DANGER)["safety"] < judge.reply_values(kind, CALM)["safety"]
    assert judge.reply_values(careful, DANGER)["safety"] == judge.reply_values(careful, CALM)["safety"]


def test_space_is_limited() -> None:
    first = reply("safety_check", "acknowledge", "validate", "reflect", "trust")
    last = reply("acknowledge", "validate", "reflect", "trust", "safety_check")
    assert judge.reply_values(last, CALM)["safety"] < judge.reply_values(first, CALM)["safety"]
    once, twice = reply("acknowledge"), reply("acknowledge", "acknowledge")
    assert judge.reply_values(twice, CALM)["empathy"] < 2 * judge.reply_values(once, CALM)["empathy"]


@pytest.mark.parametrize("criterion", THERAPEUTIC)
def test_a_person_who_rates_a_criterion_higher_feels_it_more(criterion: str) -> None:
    best = max(WORTH[criterion], key=lambda move: WORTH[criterion][move])
    high, low = ({**EVERYONE, criterion: rating} for rating in (5, 1))
    worst = min(WORTH[criterion], key=lambda move: WORTH[criterion][move])

    def gap(ratings: dict[str, int]) -> float:
        return judge.score_response(reply(best), CALM, criterion, ratings) - judge.score_response(
            reply(worst), CALM, criterion, ratings
        )

    assert gap(high) > gap(low) > 0


def test_many_at_once_is_one_by_one() -> None:
    people = [f"p{number}" for number in range(5)]
    importances = [{**EVERYONE, "empathy": 1 + number} for number in range(4)] + [{"empathy": None}]
    texts = [reply("acknowledge"), reply("crisis_line", "chat"), "something else entirely"]
    criteria = list(judge.CRITERIA)
    together = judge.scores(people, importances, "q1", DANGER, texts, criteria)
    noise = judge.persona_noise(people, "q1", texts, criteria)
    for i, importance in enumerate(importances):
        for j, criterion in enumerate(criteria):
            for k, text in enumerate(texts):
                alone = judge.score_response(text, DANGER, criterion, importance, noise[i, j, k])
                assert together[i, j, k] == pytest.approx(alone, abs=1e-12)


@given(
    people=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=6, unique=True),
    texts=st.lists(REPLIES, min_size=2, max_size=5, unique=True),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_opinions_do_not_depend_on_order_or_company(people: list[str], texts: list[str], data: st.DataObject) -> None:
    importances = [EVERYONE] * len(people)
    criteria = ["safety", "empathy", "overall"]
    all_of_them = judge.scores(people, importances, "q", CALM, texts, criteria)
    shuffled = data.draw(st.permutations(range(len(texts))))
    person = data.draw(st.integers(0, len(people) - 1))
    alone = judge.scores([people[person]], [EVERYONE], "q", CALM, [texts[place] for place in shuffled], ["empathy"])
    np.testing.assert_allclose(alone[0, 0], all_of_them[person, 1, list(shuffled)], rtol=0, atol=1e-12)


@given(texts=st.lists(REPLIES, min_size=2, max_size=2, unique=True))
@settings(max_examples=40, deadline=None)
def test_without_position_bias_a_verdict_turns_with_the_sides(texts: list[str]) -> None:
    people = [f"p{number}" for number in range(20)]
    said = judge.scores(people, [EVERYONE] * 20, "q", CALM, texts, ["empathy"])
    one, other = said[..., 0], said[..., 1]
    np.testing.assert_array_equal(judge.winners(one, other, 0.0), -judge.winners(other, one, 0.0))


def test_the_first_shown_has_a_small_advantage_only() -> None:
    people = [f"p{number}" for number in range(4000)]
    texts = [reply("reflect", "goal"), reply("explore", "goal")]
    said = judge.scores(people, [EVERYONE] * len(people), "q", CALM, texts, ["trust_rapport"])
    shown_first = judge.winners(said[..., 0], said[..., 1]) == 1
    shown_second = judge.winners(said[..., 1], said[..., 0]) == -1
    gained = shown_first.mean() - shown_second.mean()
    assert 0 < gained < 0.1


def test_the_same_text_on_both_sides_is_a_tie() -> None:
    people = [f"p{number}" for number in range(50)]
    said = judge.scores(people, [EVERYONE] * 50, "q", CALM, [reply("goal"), reply("goal")], list(judge.CRITERIA))
    assert not judge.winners(said[..., 0], said[..., 1]).any()


def test_an_order_names_every_reply_once_and_the_best_first() -> None:
    opinions = np.array([[0.0, 2.0, 1.0], [0.3, 0.2, 0.1]])
    np.testing.assert_array_equal(judge.orders(opinions), [[1, 2, 0], [0, 1, 2]])


def test_noise_is_standard_normal_and_not_shared() -> None:
    draws = judge.persona_noise(
        [f"p{number}" for number in range(60)], "q", [f"text {number}" for number in range(60)], ["empathy", "safety"]
    )
    assert stats.kstest(draws.ravel(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(draws[:, 0].ravel(), draws[:, 1].ravel())[0, 1]) < 0.06
    assert np.unique(draws).size == draws.size
    other_question = judge.persona_noise(["p0"], "another", ["text 0"], ["empathy"])
    assert other_question[0, 0, 0] != draws[0, 0, 0]


def test_a_criterion_without_rules_is_judged_all_the_same_and_the_same_way() -> None:
    """It moves with the replies, differs between criteria, weighs the persona's rating, and knows no order."""
    texts = [
        "Salt it. Then wait.",
        "How hot is your pan? Take your time.",
        "Boil the water first, then the eggs, you see.",
    ]
    people, important = ["p1", "p2"], [{"crispness": 5}, {"crispness": 1}]
    both = judge.scores(people, important, "q", "How hot is the pan?", texts, ["crispness", "thrift"])
    alone = judge.scores(people[1:], important[1:], "q", "How hot is the pan?", texts[::-1], ["crispness"])
    assert np.array_equal(both[1:, :1], alone[..., ::-1])
    noise = judge.persona_noise(people, "q", texts, ["crispness", "thrift"])
    value = both - judge.NOISE * noise
    assert np.ptp(value[0, 0]) > 0.1
    assert not np.allclose(value[0, 0], value[0, 1])
    assert np.allclose(value[0, 0] / value[1, 0], 1.0 / 0.6)
    mixed = judge.scores(people, important, "q", "How hot is the pan?", texts, ["safety", "crispness"])
    assert np.array_equal(mixed[:, 1], both[:, 0])


def test_bad_moves_are_worth_nothing_good() -> None:
    assert all(worth.get(move, 0.0) <= 0 for worth in WORTH.values() for move in BAD_MOVES)
