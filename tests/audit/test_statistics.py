"""Corrections, intervals and components where the truth is known, and against other implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit
from scipy.stats import norm, t
from statsmodels.stats.proportion import proportion_confint

from modpo_hpc.audit.correction import Confusion, confusion_of, correct
from modpo_hpc.audit.judges import family_of, fit, judge_aware, own_family
from modpo_hpc.audit.prediction import prediction_powered
from modpo_hpc.audit.total_error import by_source, purchases, total_errors, unmeasured
from modpo_hpc.errors import InputError
from modpo_hpc.evaluation.ballots import Ballots
from modpo_hpc.study.judging import Judge
from tests.bench.audit import JUDGES, lee, one_study

PAPER = Confusion(40, 16, 9, 23)


def jeffreys(cases: float, of: float) -> np.ndarray:
    """A share and its Jeffreys limits by statsmodels, to the end where all cases or none are."""
    low, high = proportion_confint(cases, of, method="jeffreys")
    return np.array([cases / of, low if cases else 0.0, high if cases < of else 1.0])


def test_the_papers_safety_corrected() -> None:
    found = correct(PAPER, 0.54, 600)
    assert round(found.sensitivity.value, 3) == 0.714
    assert round(found.specificity.value, 3) == 0.719
    assert (found.sensitivity.low, found.sensitivity.high) == pytest.approx(proportion_confint(40, 56, method="wilson"))
    assert round(found.estimate, 2) == 0.60
    drawn = correct(PAPER, 0.54, 600, drawn=True)
    assert drawn.estimate == pytest.approx(0.54 * 40 / 49 + 0.46 * 16 / 39)
    # the peer in the benchmark by its authors' published function, confidence_interval(.54, 23/32, 40/56, 600, 32, 56)
    assert lee(PAPER, 0.54, 600) == pytest.approx((0.34669, 0.83809), abs=1e-5)


@pytest.mark.parametrize("counts", [PAPER, Confusion(20, 5, 0, 12), Confusion(9, 4, 3, 6)])
def test_limits_by_a_grid_over_every_true_rate(counts: Confusion) -> None:
    """Every rate p for which rate - p sensitivity - (1 - p) false alarms is within its shares' limits of zero."""
    found = correct(counts, 0.5, 300)
    shares = (150, 300), (counts.a_a, counts.a_a + counts.a_b), (counts.b_a, counts.b_a + counts.b_b)
    value, low, high = np.array([jeffreys(*one) for one in shares]).T
    fits = []
    for true in np.linspace(0, 1, 4001):
        parts = np.array([1, -true, true - 1])
        misfit = parts @ value
        far = (low if misfit > 0 else high)[0], *(high if misfit > 0 else low)[1:]
        if abs(misfit) <= np.linalg.norm(parts * (np.array(far) - value)):
            fits.append(true)
    assert (found.low, found.high) == pytest.approx((fits[0], fits[-1]), abs=3e-4)


@pytest.mark.parametrize("counts", [PAPER, Confusion(20, 5, 0, 12), Confusion(2, 9, 14, 25)])
def test_limits_of_drawn_questions_by_hand(counts: Confusion) -> None:
    """Zou and Donner's formula for the sum, with the rate's part by its sign; a judge below chance serves as well."""
    found = correct(counts, 0.5, 300, drawn=True)
    rate, says_a, says_b = (
        jeffreys(*one)
        for one in ((150, 300), (counts.a_a, counts.a_a + counts.b_a), (counts.a_b, counts.a_b + counts.b_b))
    )
    gain = says_a[0] - says_b[0]
    middle = (says_a[0] + says_b[0]) / 2
    for side, limit in ((1, found.low), (2, found.high)):
        moved = gain * (rate[side if gain > 0 else 3 - side] - 0.5)
        reach = math.sqrt(moved**2 + (says_a[side] - says_a[0]) ** 2 / 4 + (says_b[side] - says_b[0]) ** 2 / 4)
        assert limit == pytest.approx(middle + (reach if side == 2 else -reach))


def test_with_many_labels_the_delta_method_and_the_variance_of_double_sampling() -> None:
    """The gradient by differences; Tenenbein's variance from the correlation of label and judge."""
    many = 1e5
    counts = Confusion(40 * many, 16 * many, 9 * many, 23 * many)
    rate, of = 0.54, int(600 * many)
    found = correct(counts, rate, of)
    shares = np.array([rate, 40 / 56, 23 / 32])

    def true_rate(p: float, sensitivity: float, specificity: float) -> float:
        return (p + specificity - 1) / (sensitivity + specificity - 1)

    steps = 1e-6 * np.eye(3)
    gradient = np.array([(true_rate(*(shares + step)) - true_rate(*(shares - step))) / 2e-6 for step in steps])
    error = math.sqrt(float(gradient**2 @ (shares * (1 - shares) / np.array([of, 56 * many, 32 * many]))))
    assert found.estimate == pytest.approx(true_rate(*shares))
    assert found.high - found.low == pytest.approx(2 * norm.ppf(0.975) * error, rel=1e-3)

    judged = (40 + 9) / 88
    drawn = correct(counts, judged, of, drawn=True)
    true = 56 / 88
    squared = (40 * 23 - 16 * 9) ** 2 / (56 * 32 * 49 * 39)
    error = math.sqrt(true * (1 - true) * ((1 - squared) / (88 * many) + squared / of))
    assert drawn.estimate == pytest.approx(true)
    assert drawn.high - drawn.low == pytest.approx(2 * norm.ppf(0.975) * error, rel=1e-3)


def test_questions_weigh_by_their_probability_to_be_labelled() -> None:
    labels = np.array([1, 1, 0, 0, 0.5, 1])
    predicted = np.array([0.9, 0.2, 0.7, 0.1, 0.9, 0.5])
    assert confusion_of(labels, predicted, np.full(6, 0.1)) == Confusion(1, 1, 1, 1)
    found = confusion_of(labels, predicted, np.array([0.1, 0.2, 0.1, 0.1, 0.5, 0.5]))
    # weights 10, 5, 10, 10: effective number 35 ** 2 / 325
    assert np.array([found.a_a, found.a_b, found.b_a, found.b_b]) == pytest.approx(35 / 325 * np.array([10, 5, 10, 10]))


def test_a_judge_that_knows_nothing_corrects_nothing() -> None:
    constant = correct(Confusion(64, 0, 27, 0), 0.9, 600)
    assert constant.constant
    for counts, rate in (
        (Confusion(64, 0, 27, 0), 0.9),
        (Confusion(20, 20, 20, 20), 0.9),
        (Confusion(10, 30, 30, 10), 0.9),
        (Confusion(9, 3, 0, 0), 0.9),
        # more A than the judge would say if all were: it errs otherwise on these questions
        (PAPER, 0.97),
    ):
        found = correct(counts, rate, 600)
        assert not found.informative
        assert (found.low, found.high) == (0, 1)
    # drawn questions tell what they tell without a judge
    drawn = correct(Confusion(64, 0, 27, 0), 1.0, 600, drawn=True)
    assert (drawn.estimate, drawn.low, drawn.high) == pytest.approx(tuple(jeffreys(64, 91)), abs=1e-5)
    with pytest.raises(InputError, match="no rate"):
        correct(PAPER, 1.2, 600)
    with pytest.raises(InputError, match="negative"):
        Confusion(1, 2, -3, 4)
    with pytest.raises(InputError, match="more questions were labelled"):
        correct(PAPER, 0.5, 80, drawn=True)


def test_prediction_powered_as_ppi_python() -> None:
    """Numbers of ppi-python 0.2.3: ppi_mean_pointestimate, and ppi_mean_ci at half widths freed of z and ddof."""
    k = np.arange(200)
    votes = ((k * 37) % 51) / 50
    people = ((k * 11) % 7 < 3 + (votes > 0.5) * 2).astype(float)
    labelled = k % 4 == 0
    found = prediction_powered(people[labelled], votes, labelled, np.full(200, 0.25))
    assert found is not None
    assert found.classical == pytest.approx(0.56)
    assert found.estimate == pytest.approx(0.55690438, abs=2e-4)
    theirs = (0.69070168 - 0.42310708) / 2 / norm.ppf(0.975)
    ours = (found.high - found.low) / 2 / t.ppf(0.975, 48) * math.sqrt(48 / 50)
    assert ours == pytest.approx(theirs, rel=0.005)


def test_too_few_labels_give_no_interval_and_a_constant_judge_leaves_people_alone() -> None:
    rng = np.random.default_rng(1)
    labelled = np.arange(100) < 9
    assert prediction_powered(np.ones(9), rng.random(100), labelled, np.full(100, 0.09)) is None
    labelled = np.arange(100) < 30
    labels = rng.integers(0, 2, 30).astype(float)
    found = prediction_powered(labels, np.full(100, 0.8), labelled, np.full(100, 0.3))
    assert found is not None
    assert found.constant
    assert (found.power, found.worth) == (0, 0)
    assert found.estimate == found.classical == pytest.approx(labels.mean())


def test_intervals_hold_the_truth_where_the_judge_alone_does_not() -> None:
    """A lenient judge on top of a known truth; 93 to 97% within what 250 studies can tell (three standard errors)."""
    rng = np.random.default_rng(3)
    difference = rng.normal(0.2, 1, 4000)
    label = (difference > 0).astype(float)
    made = [one_study(difference, label, JUDGES["lenient"], 50, rng) for _ in range(250)]
    share = float(label.mean())
    coverage = {way: np.mean([one[way][0] <= share <= one[way][1] for one in made]) for way in made[0]}
    assert coverage["judge alone"] < 0.1
    for way in set(coverage) - {"judge alone"}:
        assert 0.95 - 0.041 <= coverage[way] <= 0.95 + 0.041, way
    widths = {way: np.mean([one[way][1] - one[way][0] for one in made]) for way in made[0]}
    assert widths["PPI++"] < 0.9 * widths["labels alone"]
    assert widths["counts drawn"] < 0.9 * widths["labels alone"]


def crossed(
    rng: np.random.Generator,
    questions: int,
    personas: int,
    of_question: float,
    of_persona: float,
    judges: tuple[float, ...] = (0.0,),
) -> Ballots:
    """Votes of one pair with normal effects of questions, personas and (as given) judges behind them."""
    behind = of_question * rng.normal(size=(questions, 1)) + of_persona * rng.normal(size=(1, personas))
    votes = np.concatenate(
        [np.where(behind + lean + rng.normal(size=behind.shape) > 0, 1, -1) for lean in judges], axis=1
    )
    names = tuple(f"judge{number}" for number in range(len(judges))) if len(judges) > 1 else ()
    shape = (1, 1, questions, personas * len(judges))
    return Ballots(
        "phase",
        ("A", "B"),
        ("safety",),
        tuple(f"q{number}" for number in range(questions)),
        tuple(f"p{number}" for number in range(personas)),
        votes.reshape(shape).astype(np.int8),
        np.ones(shape, dtype=np.int8),
        names,
    )


@pytest.mark.parametrize(("of_question", "of_persona"), [(1.0, 0.2), (0.3, 0.6), (0.8, 0.8)])
def test_the_total_error_is_that_of_studies_done_again(of_question: float, of_persona: float) -> None:
    rng = np.random.default_rng(5)
    found = [total_errors(crossed(rng, 60, 15, of_question, of_persona), [Judge()])[0] for _ in range(300)]
    spread = np.std([one.difference for one in found])
    assert math.sqrt(np.mean([one.total**2 for one in found])) == pytest.approx(spread, rel=0.12)
    assert np.mean([one.naive for one in found]) < 0.7 * spread


def test_calls_buy_what_is_dear() -> None:
    rng = np.random.default_rng(6)
    for effects, best in (((1.2, 0.1), "questions"), ((0.1, 1.2), "personas")):
        errors = total_errors(crossed(rng, 60, 15, *effects), [Judge()])
        listed = purchases(errors, 900)
        assert listed[0].factor == best
        assert listed[0].error < errors[0].total
        assert {one.factor: one.levels for one in listed} == {"questions": 60, "personas": 15}
        assert purchases(errors, 1) == []
    panel = total_errors(crossed(rng, 60, 15, 0.3, 0.1, (1.0, -0.6)), [Judge(kind="openai", model=m) for m in "ab"])
    assert purchases(panel, 1800)[0].factor == "judges"


def test_what_a_study_cannot_know_is_named_and_what_its_panel_shows_is_measured() -> None:
    rng = np.random.default_rng(7)
    alone = total_errors(crossed(rng, 40, 10, 0.5, 0.3), [Judge(kind="openai", model="one")])
    assert set(unmeasured(alone)) == {"answers", "judges", "wording", "judge sampling", "seed"}
    ballots = crossed(rng, 40, 10, 0.5, 0.3, (0.9, -0.3, 0.3))
    model = {"kind": "openai", "model": "one"}
    panels = (
        ([Judge(**{**model, "model": name}) for name in "abc"], "judges"),
        ([Judge(**model, scene=scene) for scene in ("One.", "Two.", "Three.")], "wording"),
        ([Judge(**model, sampling_seed=seed) for seed in range(3)], "judge sampling"),
    )
    for judges, measured in panels:
        found = total_errors(ballots, judges)
        assert set(unmeasured(found)) == {"answers", "judges", "wording", "judge sampling", "seed"} - {measured}
        assert by_source(found)[measured] > 0.1
    seeds = total_errors(ballots, panels[0][0], [crossed(rng, 40, 10, 0.5, 0.3, (0.9, -0.3, 0.3)) for _ in range(2)])
    assert "seed" not in unmeasured(seeds)


def ballots_of(votes: np.ndarray, policies: tuple[str, ...], judges: tuple[str, ...] = ()) -> Ballots:
    """Ballots of one criterion from ``votes`` (pairs x questions x personas, or judges x personas)."""
    _, questions, voters = votes.shape
    return Ballots(
        "phase",
        policies,
        ("safety",),
        tuple(f"q{number}" for number in range(questions)),
        tuple(f"p{number}" for number in range(voters // max(1, len(judges)))),
        votes[None].astype(np.int8),
        np.ones((1, *votes.shape), dtype=np.int8),
        judges,
    )


def test_a_model_beside_itself_tells_the_sampling_of_the_answers() -> None:
    """Against studies done again in which the answers alone are drawn anew: the same questions, how hard they are."""
    rng = np.random.default_rng(11)
    shape, policies = (80, 12), ("X", "X_again", "Y")
    lead = rng.normal(0.3, 0.6, (80, 1))

    def votes() -> np.ndarray:
        of_answers = [0.5 * rng.normal(size=(80, 1)) for _ in policies]
        return np.stack(
            [
                np.where((b == 2) * lead + of_answers[a] - of_answers[b] + rng.normal(size=shape) > 0, 1, -1)
                for a, b in ((0, 1), (0, 2), (1, 2))
            ]
        )

    made = [total_errors(ballots_of(votes(), policies), [Judge()], twins=[("X", "X_again")]) for _ in range(120)]
    errors = [{part.source: part.error for part in one[1].components} for one in made]
    spread = np.std([one[1].difference for one in made])
    assert math.sqrt(np.mean([one["answers"] ** 2 + one["votes"] ** 2 for one in errors])) == pytest.approx(
        spread, rel=0.15
    )
    assert np.mean([one["answers"] for one in errors]) > 0.5 * spread
    assert np.mean([one["questions"] for one in errors]) > 0.3 * spread

    ballots = ballots_of(votes(), policies)
    told, plain = total_errors(ballots, [Judge()], twins=[("X", "X_again")]), total_errors(ballots, [Judge()])
    assert "answers" not in unmeasured(told)
    assert [one.total for one in told] == pytest.approx([one.total for one in plain])
    assert told[0].row()["questions"] == pytest.approx(0)
    bought, as_before = purchases(told, 4000), purchases(plain, 4000)
    assert [one.error for one in bought] == pytest.approx([one.error for one in as_before])


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-5-chat-latest", "gpt"),
        ("openai/chatgpt-4o-latest", "gpt"),
        ("o3-mini", "gpt"),
        ("mistralai/Mistral-7B-Instruct-v0.2", "mistral"),
        ("mistralai/Mixtral-8x7B", "mistral"),
        ("meta-llama/Meta-Llama-3.1-8B", "llama"),
        ("Qwen/Qwen2.5-7B", "qwen"),
        ("anthropic/claude-sonnet-4", "claude"),
        ("our-own-7b", "our-own-7b"),
    ],
)
def test_the_family_of_a_model_is_in_its_name(model: str, family: str) -> None:
    assert family_of(model) == family


def test_favour_for_the_own_family_is_what_judges_of_neither_family_do_not_give() -> None:
    """A planted favour of .15 of the votes, beside policies that differ in earnest; intervals over studies cover it."""
    families = {"GPT4o": "gpt", "Base": "mistral", "Claude": "claude", "one": "gpt", "two": "llama", "three": "mistral"}
    policies, judges = ("GPT4o", "Base", "Claude"), ("one", "two", "three")
    better, favour = {("GPT4o", "Base"): 0.2, ("GPT4o", "Claude"): -0.1, ("Base", "Claude"): 0.0}, 0.15
    rng, held, found = np.random.default_rng(12), 0, None
    for _ in range(100):
        votes = []
        for pair, lead in better.items():
            taste = 0.1 * rng.normal(size=(60, 1)) + 0.05 * rng.normal(size=(1, 10))
            for_gpt = favour if "GPT4o" in pair else 0.0
            by_judge = [
                np.where(rng.random((60, 10)) < 0.5 + lead + extra + taste, 1, -1)
                # the third judge favours Base as much, and is no witness where Base stands against GPT4o
                for extra in (for_gpt, 0.0, {("GPT4o", "Base"): -favour, ("Base", "Claude"): favour}.get(pair, 0.0))
            ]
            votes.append(np.concatenate(by_judge, axis=1))
        ballots = ballots_of(np.stack(votes), policies, judges)
        found = own_family(ballots, 0, "one", families)
        assert found is not None
        held += found.low <= favour <= found.high
        assert own_family(ballots, 0, "two", families) is None
    assert 89 <= held <= 100
    assert found.policies == ("GPT4o",)
    assert found.others == ("two", "three")
    alone = own_family(ballots_of(np.stack(votes)[..., :10], policies), 0, "one", families)
    assert alone is not None
    assert alone.others == ()
    assert math.isnan(alone.favour)


def test_judges_that_agree_give_the_abilities_of_logistic_regression() -> None:
    rng = np.random.default_rng(8)
    true = np.array([0.8, 0.1, -0.3, -0.6])
    a, b = np.triu_indices(4, 1)
    won = rng.binomial(400, expit(true[a] - true[b])).astype(float)
    ability, discrimination = fit(np.column_stack([won, won]), np.full((6, 2), 400.0), 4)
    design = np.zeros((6, 3))
    for row, (one, other) in enumerate(zip(a, b, strict=True)):
        for policy, sign in ((one, 1), (other, -1)):
            if policy < 3:
                design[row, policy] += sign
            else:
                design[row] -= sign
    counts = np.column_stack([won + 0.5, 400 - won + 0.5])
    theirs = sm.GLM(counts, design, family=sm.families.Binomial()).fit().params
    assert ability[:3] == pytest.approx(theirs, abs=1e-3)
    assert discrimination == pytest.approx([1, 1], abs=1e-3)


def test_a_judge_that_clicks_at_random_is_found_out() -> None:
    rng = np.random.default_rng(9)
    true, sharp = np.array([1.0, 0.0, -1.0]), np.array([1.5, 1.0, 0.0])
    a, b = np.triu_indices(3, 1)
    chance = expit((true[a] - true[b])[:, None, None, None] * sharp[None, None, :, None])
    votes = np.where(rng.random((3, 80, 3, 8)) < chance, 1, -1).reshape(1, 3, 80, 24).astype(np.int8)
    ballots = Ballots(
        "phase", ("A", "B", "C"), ("safety",), tuple(map(str, range(80))), tuple(map(str, range(8))), votes,
        np.ones_like(votes), ("sharp", "fair", "random"),
    )  # fmt: skip
    found = judge_aware(ballots, 0, rng, draws=40)
    assert found.discrimination[2] < 0.4 < found.discrimination[1] < found.discrimination[0]
    ratio = found.discrimination[0] / found.discrimination[1]
    assert ratio == pytest.approx(1.5, rel=0.25)
    assert (found.ability_low < found.ability).all()
    assert list(np.argsort(-found.ability)) == [0, 1, 2]
