"""Samples, forms and answers: blinded, balanced, and every wrong file named."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modpo_hpc.errors import IncompleteError, InputError
from modpo_hpc.human.active import design, draw
from modpo_hpc.human.answers import TIE, WON_A, WON_B, judgments, ratings_of, read_answers
from modpo_hpc.human.forms import Form, Key, forms_for_everyone, forms_for_many, new_secret, render
from modpo_hpc.human.labels import labels_of_run
from modpo_hpc.human.sample import PolicyPair, Sample, draw_sample
from modpo_hpc.human.simulate import fill_in
from modpo_hpc.human.study import criteria_of, load_sample
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.judging.tasks import Criterion
from modpo_hpc.report.human import human_section
from modpo_hpc.run import Run
from modpo_hpc.study.human import Human
from modpo_hpc.study.judging import Criteria
from tests.human.conftest import CRITERIA

Command = Callable[..., CompletedProcess[str]]
PAIR = PolicyPair("phase2", "Ours", "Base")


def outcomes(questions: int = 600, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    index = [f"q{place}" for place in range(questions)]
    return pd.DataFrame(
        {
            "overall": rng.choice([1, 0, -1], p=[0.7, 0.05, 0.25], size=questions),
            "safety": rng.choice([1, 0, -1], p=[0.55, 0.1, 0.35], size=questions),
        },
        index=index,
    )


def sample_of(questions: int = 20) -> Sample:
    names = tuple(f"q{place}" for place in range(questions))
    return Sample(PAIR, names, ("overall",), (), 42, {})


def key_of(forms: tuple[Form, ...], failures: int = 0, code: str | None = None) -> Key:
    return Key(PAIR, CRITERIA, forms, failures, code, "secret")


def test_the_sample_keeps_the_profile_of_the_whole() -> None:
    whole = outcomes()
    sample = draw_sample(whole, PAIR, 100, 42)
    assert len(set(sample.questions)) == 100
    part = whole.loc[list(sample.questions)]
    for criterion in whole:
        for value in (1, 0, -1):
            assert abs((part[criterion] == value).mean() - (whole[criterion] == value).mean()) <= 0.0101
    joint = pd.crosstab(part.overall, part.safety) - pd.crosstab(whole.overall, whole.safety) / 6
    assert joint.abs().to_numpy().max() < 1.5
    assert draw_sample(whole, PAIR, 100, 42) == sample
    assert draw_sample(whole, PAIR, 100, 43) != sample
    with pytest.raises(InputError, match="601 questions are wanted, but the test set has 600"):
        draw_sample(whole, PAIR, 601, 42)


def test_every_rater_sees_everything_in_an_order_of_their_own() -> None:
    forms = forms_for_everyone(sample_of(), 6, 2, "secret")
    orders = set()
    for form in forms:
        asked = [item for item in form.key if item.question_id]
        assert sorted(item.question_id or "" for item in asked) == sorted(sample_of().questions)
        assert Counter(item.shown_as_a for item in asked) == {"Ours": 10, "Base": 10}
        checks = [item for item in form.key if item.expected]
        assert len(checks) == 2
        assert form.key[0].expected is None
        orders.add(tuple(item.question_id for item in asked))
    assert len(orders) == 6
    sides = {tuple(sorted((item.question_id or "", item.shown_as_a or "") for item in form.key)) for form in forms}
    assert len(sides) == 6


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 12))
def test_a_crowd_covers_every_question_equally(questions: int, raters: int, per_form: int) -> None:
    forms = forms_for_many(sample_of(questions), raters, per_form, 1, "secret")
    seen: Counter[str] = Counter()
    for form in forms:
        asked = [item.question_id for item in form.key if item.question_id]
        assert len(set(asked)) == len(asked)
        assert sum(item.expected is not None for item in form.key) == 1
        seen.update(asked)
    assert seen == dict.fromkeys(sample_of(questions).questions, raters)


def test_the_page_tells_neither_policies_nor_key() -> None:
    sample = sample_of(4)
    posts = {name: f"post {name} </script><b>&" for name in sample.questions}
    answers = {policy: {name: f"{policy[::-1]} of {name}" for name in sample.questions} for policy in ("Ours", "Base")}
    key = key_of(forms_for_everyone(sample, 2, 1, "secret"), code="ABC123")
    criteria = load_criteria(Criteria(rank=("empathy",)).files, CRITERIA)
    for form in key.forms:
        page = render(form, key, posts, answers, criteria, Human(), "sandbox")
        assert "Ours" not in page
        assert "Base" not in page
        assert "question_id" not in page
        assert "expected" not in page
        assert "http" not in page.replace("http-equiv", "")
        content = page.split('id="data">')[1].split("</script>")[0]
        data = json.loads(content)
        assert len(data["items"]) == 5
        for item, shown in zip(form.key, data["items"], strict=True):
            if item.question_id:
                assert shown["post"] == posts[item.question_id]
                assert shown["a"] == answers[item.shown_as_a or ""][item.question_id]
                assert shown["a"] != shown["b"]
            else:
                assert "attention check" in shown["post"]


def handed_in(key: Key, folder: Path, choose: Callable[[str, str], str], form: int = 0) -> Path:
    """A file as the page makes it, each answer by ``choose(policy shown as A, criterion)``."""
    one = key.forms[form]
    filled = {
        item.item: {name: item.expected or choose(item.shown_as_a or "", name) for name in key.criteria}
        for item in one.key
    }
    path = folder / f"answers_{one.form_id}.json"
    path.write_text(json.dumps({"form": one.form_id, "stamp": key.stamp, "answers": filled, "seconds": {}}))
    return path


def test_answers_are_unblinded(tmp_path: Path) -> None:
    key = key_of(forms_for_everyone(sample_of(), 3, 1, "secret"))
    always_ours = handed_in(key, tmp_path, lambda shown, _: "A" if shown == "Ours" else "B", 0)
    always_left = handed_in(key, tmp_path, lambda *_: "A", 1)
    equal = handed_in(key, tmp_path, lambda *_: "equal", 2)
    handed = read_answers([always_left, equal, always_ours], key, False)
    made = ratings_of(handed, key, sample_of().questions)
    assert made.raters == ("rater01", "rater02", "rater03")
    assert (made.labels[0] == WON_A).all()
    assert (made.labels[2] == TIE).all()
    # who always takes the left one is for either policy as often
    assert (made.labels[1] == WON_A).sum() == (made.labels[1] == WON_B).sum() == made.labels[1].size / 2
    rows = judgments(handed, key)
    assert len(rows) == 3 * 20 * 7
    assert {row["winner"] for row in rows if row["rater"] == "rater01"} == {"A"}


def test_failed_attention_checks_exclude_as_declared(tmp_path: Path) -> None:
    forms = forms_for_everyone(sample_of(), 2, 2, "secret")
    for allowed in (0, 1, 2):
        key = key_of(forms, failures=allowed)
        good = handed_in(key, tmp_path, lambda *_: "A", 0)
        bad = handed_in(key, tmp_path, lambda *_: "A", 1)
        raw = json.loads(bad.read_text())
        first = next(item for item in forms[1].key if item.expected)
        raw["answers"][first.item]["empathy"] = "A" if first.expected != "A" else "B"
        bad.write_text(json.dumps(raw))
        made = ratings_of(read_answers([good, bad], key, False), key, sample_of().questions)
        assert dict(made.excluded) == ({} if allowed else {"rater02": 1})
    key = key_of(forms, failures=0)
    bad = handed_in(key, tmp_path, lambda *_: "A", 1)
    raw = json.loads(bad.read_text())
    raw["answers"][first.item] = dict.fromkeys(CRITERIA, "A" if first.expected != "A" else "B")
    bad.write_text(json.dumps(raw))
    with pytest.raises(IncompleteError, match="all raters failed"):
        ratings_of(read_answers([bad], key, False), key, sample_of().questions)


def test_wrong_double_and_partial_files_are_named(tmp_path: Path) -> None:
    key = key_of(forms_for_everyone(sample_of(), 2, 0, "secret"))
    good = handed_in(key, tmp_path, lambda *_: "A")
    again = tmp_path / "again.json"
    again.write_text(good.read_text())
    with pytest.raises(InputError, match=r"again.json.*rater01 was handed in twice"):
        read_answers([good, again], key, False)

    raw = json.loads(good.read_text())
    for change, expected in (
        ({"form": "rater99"}, "does not answer any form"),
        ({"stamp": "0" * 12}, "made at another time"),
        ({"answers": {**raw["answers"], "i999": {}}}, "not on the form"),
        ({"answers": {**raw["answers"], "i001": {"empathy": "C"}}}, "no answer of the form"),
    ):
        again.write_text(json.dumps({**raw, **change}))
        with pytest.raises(InputError, match=expected):
            read_answers([again], key, False)
    again.write_text("not JSON")
    with pytest.raises(InputError, match="no file of answers"):
        read_answers([again], key, False)

    del raw["answers"]["i003"]
    again.write_text(json.dumps(raw))
    with pytest.raises(IncompleteError, match=r"again.json: 1 of 20 questions are not complete"):
        read_answers([again], key, False)
    (partial,) = read_answers([again], key, True)
    assert len(judgments([partial], key)) == 19 * 7


def test_a_participant_counts_once(tmp_path: Path) -> None:
    key = key_of(forms_for_everyone(sample_of(), 2, 0, "secret"))
    paths = [handed_in(key, tmp_path, lambda *_: "A", place) for place in range(2)]
    for path in paths:
        path.write_text(json.dumps({**json.loads(path.read_text()), "participant": "someone"}))
    with pytest.raises(InputError, match="the same participant handed in form rater02 and form rater01"):
        read_answers(paths, key, False)


def test_simulated_raters_agree_more_than_chance_and_say_what_they_are() -> None:
    key = key_of(forms_for_everyone(sample_of(), 2, 1, "secret"))
    posts = dict.fromkeys(sample_of().questions, "I feel sad about work.")
    kind = "I am sorry that you feel sad about work. It makes sense to feel sad after that."
    harsh = "Others have it much worse than you. Just pull yourself together."
    answers = {"Ours": dict.fromkeys(posts, kind), "Base": dict.fromkeys(posts, harsh)}
    for form in key.forms:
        filled = fill_in(form, key, posts, answers, 42)
        assert filled["simulated"] is True
        better = [
            filled["answers"][item.item]["empathy"] == ("A" if item.shown_as_a == "Ours" else "B")  # type: ignore[index]
            for item in form.key
            if item.question_id
        ]
        assert np.mean(better) > 0.9


def test_the_whole_path_by_commands(made_run: Path, tmp_path: Path, command: Command) -> None:
    run = tmp_path / "run"
    shutil.copytree(made_run, run)
    none = command("human", "forms", run)
    assert none.returncode == 3
    assert "modpo human sample" in none.stderr
    assert command("human", "sample", run, "--questions", 30).returncode == 0
    assert command("human", "forms", run, "--raters", 4, "--attention", 1).returncode == 0
    assert command("human", "forms", run).returncode == 2
    assert command("human", "sample", run, "--questions", 20).returncode == 2
    assert command("human", "analyze", run).returncode == 3
    assert command("human", "simulate", run).returncode == 0
    done = command("human", "analyze", run, "--bootstrap", 100)
    assert done.returncode == 0, done.stderr
    assert "sandbox: simulated raters" in done.stdout
    assert "MODPO_Survey" in done.stdout
    folder = run / "human" / "analysis"
    assert {"clinicians.pdf", "clinicians.png", "clinicians.svg", "judgments.parquet", "summary.json"} <= {
        path.name for path in folder.iterdir()
    }
    outcomes_table = pd.read_csv(folder / "outcomes.csv")
    assert set(outcomes_table.criterion) == set(CRITERIA)
    assert set(outcomes_table.note) == {"sandbox: simulated raters"}
    overall = outcomes_table.query("criterion == 'overall' and rule == 'majority'").iloc[0]
    assert overall.A > overall.B
    measured = pd.read_csv(folder / "model_agrees.csv")
    assert set(measured[measured.who == "model"].criterion) == {"overall", "safety"}
    assert measured[measured.who == "model"].accuracy.min() > 0.5
    again = command("human", "analyze", run, "--bootstrap", 100, "--json")
    assert json.loads(again.stdout)["raters"] == [f"rater{n:02d}" for n in range(1, 5)]
    for path in (run / "human").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_crowd_by_commands(made_run: Path, tmp_path: Path, command: Command) -> None:
    run = tmp_path / "run"
    shutil.copytree(made_run, run)
    command("human", "sample", run, "--questions", 20)
    made = command("human", "forms", run, "--crowd", "--raters-per-question", 3, "--questions-per-form", 5, "--json")
    assert len(json.loads(made.stdout)["forms"]) == 12
    code = json.loads(made.stdout)["completion_code"]
    assert code
    assert code in (run / "human" / "forms" / "form001.html").read_text()
    command("human", "simulate", run)
    done = command("human", "analyze", run, "--bootstrap", 20, "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert len(content["raters"]) == 12
    assert content["tables"]["outcomes"][0]["n"] == 20

    # one rater of each question clicked without reading; another never came back
    careless = {f"form{number:03d}" for number in range(1, 5)}
    for form in careless:
        path = run / "human" / "answers" / f"answers_{form}.json"
        raw = json.loads(path.read_text())
        raw["answers"] = {item: dict.fromkeys(CRITERIA, "A") for item in raw["answers"]}
        path.write_text(json.dumps(raw))
    (run / "human" / "answers" / "answers_form012.json").unlink()
    checks = {
        form["form_id"]: [item["expected"] for item in form["key"] if item["expected"]]
        for form in json.loads((run / "human" / "key.json").read_text())["forms"]
    }
    failed = {form: sum(wish != "A" for wish in checks[form]) for form in careless}
    done = command("human", "analyze", run, "--bootstrap", 20, "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["excluded"] == {form: count for form, count in sorted(failed.items()) if count}
    assert content["excluded"]
    assert content["not_handed_in"] == ["form012"]
    assert set(content["raters"]) == set(checks) - set(content["excluded"]) - {"form012"}
    shown = command("human", "analyze", run, "--bootstrap", 20)
    for form, count in content["excluded"].items():
        assert f"excluded {form}: {count} attention checks failed" in shown.stdout
    judged = pd.read_parquet(run / "human" / "analysis" / "judgments.parquet")
    assert set(judged.form) == set(checks) - {"form012"}
    # not everyone judged everything, so that Fleiss' kappa is not defined: the report leaves its cells empty
    section = human_section(Run.open(run))
    assert section is not None
    assert {row[-2] for row in section.tables[0].rows} == {""}
    assert section.figures[0].draw().axes


def test_the_call_in_the_docs_with_files_after_the_folder(made_run: Path, tmp_path: Path, command: Command) -> None:
    run, handed = tmp_path / "run", tmp_path / "answers"
    shutil.copytree(made_run, run)
    command("human", "sample", run, "--questions", 10)
    command("human", "forms", run, "--raters", 2)
    command("human", "simulate", run)
    shutil.move(run / "human" / "answers", handed)
    done = command("human", "analyze", run, *sorted(handed.glob("*.json")), "--bootstrap", 20)
    assert done.returncode == 0, done.stderr
    assert "2 raters, 10 questions" in done.stdout
    done = command("human", "analyze", run, handed / "answers_rater02.json", "--bootstrap", 20, "--json")
    assert json.loads(done.stdout)["not_handed_in"] == ["rater01"]


def test_page_code_and_seed_do_not_unblind(made_run: Path, tmp_path: Path, command: Command) -> None:
    """Whoever has a page, this code and the study's seed can draw forms, and not the ones that were sent out."""
    run = tmp_path / "run"
    shutil.copytree(made_run, run)
    command("human", "sample", run, "--questions", 40)
    command("human", "forms", run, "--raters", 2)
    kept = Key.from_json(json.loads((run / "human" / "key.json").read_text()))
    page = (run / "human" / "forms" / "rater01.html").read_text()
    assert kept.secret not in page
    sample = load_sample(run / "human")
    seed = Run.open(run).study.seed
    for guess in ("", "None", str(seed), Run.open(run).study.name, new_secret()):
        forms = forms_for_everyone(sample, 2, 0, guess)
        assert forms != kept.forms
        # right about half of the sides, as anybody is
        sides = {item.question_id: item.shown_as_a for item in kept.forms[0].key}
        right = np.mean([sides[item.question_id] == item.shown_as_a for item in forms[0].key])
        assert 0.1 < right < 0.9
        guessed = Key(kept.comparison, kept.criteria, kept.forms, kept.failures_allowed, None, guess)
        assert guessed.stamp not in page, "the stamp would tell whether a guessed key is right"
    assert kept.stamp in page
    # drawn anew each time, so that no two sets of forms share their sides
    shutil.rmtree(run / "human" / "forms")
    (run / "human" / "key.json").unlink()
    command("human", "forms", run, "--raters", 2)
    assert Key.from_json(json.loads((run / "human" / "key.json").read_text())).forms != kept.forms


HOSTILE = '</script><img src=x onerror="alert(1)">&amp;\'"'


def test_nothing_that_a_study_or_a_model_says_becomes_markup() -> None:
    """Every text that reaches the page comes from somewhere else, and none of it may open an element."""
    words = Human(title=HOSTILE, material=HOSTILE, notice=HOSTILE)
    key = key_of(forms_for_everyone(sample_of(2), 1, 1, "secret"), code=HOSTILE)
    posts = dict.fromkeys(sample_of(2).questions, HOSTILE)
    criteria = [Criterion(name, HOSTILE, HOSTILE) for name in CRITERIA]
    page = render(key.forms[0], key, posts, {"Ours": posts, "Base": posts}, criteria, words, HOSTILE)
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert json.loads(page.split('id="data">')[1].split("</script>")[0])["items"][0]["post"] == HOSTILE


def test_the_words_of_a_page_are_those_of_its_study() -> None:
    key = key_of(forms_for_everyone(sample_of(2), 1, 0, "secret"))
    posts = dict.fromkeys(sample_of(2).questions, "How long do I boil an egg?")
    criteria = [Criterion("tasty", "Tasty", "It would taste good.")]
    cooking = Human(title="Which recipe?", material="questions from a kitchen")
    page = render(key.forms[0], key, posts, {"Ours": posts, "Base": posts}, criteria, cooking, None)
    told = page.casefold()
    assert "questions from a kitchen" in told
    for word in ("distress", "suicide", "self-harm", "how they are doing", "counsel", "therap", "patient", "empath"):
        assert word not in told
    warned = render(key.forms[0], key, posts, {"Ours": posts, "Base": posts}, criteria, Human(notice="Hot pans."), None)
    assert "Hot pans." in warned


def test_the_criteria_of_the_forms_come_from_the_study(made_run: Path) -> None:
    study = Run.open(made_run).study
    assert criteria_of(study, "phase2") == CRITERIA
    without = study.model_copy(update={"human": Human()})
    assert criteria_of(without, "phase2") == (*study.criteria.rank, "overall")


def test_a_second_round_asks_what_is_not_known_and_both_are_counted(
    made_run: Path, tmp_path: Path, command: Command
) -> None:
    run = tmp_path / "run"
    shutil.copytree(made_run, run)
    early = command("human", "sample", run, "--next", "safety", "--questions", 20)
    assert early.returncode == 3
    for words in (("sample", run, "--questions", 40), ("forms", run, "--raters", 3), ("simulate", run)):
        command("human", *words)
    command("human", "analyze", run, "--bootstrap", 20)
    assert command("human", "sample", run, "--next", "warmth", "--questions", 20).returncode == 2
    assert command("human", "sample", run, "--next", "safety", "--questions", 90).returncode == 2
    done = command("human", "sample", run, "--next", "safety", "--questions", 20)
    assert done.returncode == 0, done.stderr
    assert "for safety: " in done.stdout
    first, second = (load_sample(run / "human" / where) for where in ("", "round2"))
    assert not set(first.questions) & set(second.questions)
    left = set(second.inclusion) - set(first.questions)
    assert sum(second.inclusion[question] for question in left) == pytest.approx(20)
    assert min(second.inclusion.values()) > 0
    for words in (("forms", run, "--raters", 3), ("simulate", run)):
        assert command("human", *words).returncode == 0
    assert "20 questions" in command("human", "analyze", run, "--bootstrap", 20).stdout
    known = labels_of_run(Run.open(run), "majority")
    assert set(known.labels.index) == {*first.questions, *second.questions}
    assert len(known.inclusion) == 120
    assert all(known.inclusion[question] > 1 / 3 for question in known.inclusion)


@pytest.mark.parametrize("seed", range(3))
def test_a_systematic_draw_has_the_probabilities_that_it_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, labelled = rng.beta(0.7, 0.7, 60), rng.random(60) < 0.2
    truth = rng.binomial(1, predicted[labelled]) - predicted[labelled]
    planned = design(predicted, labelled, truth, 15)
    times = np.zeros(60)
    for _ in range(4000):
        places = draw(planned.inclusion, ~labelled, rng)
        assert len(set(places)) == 15
        times[places] += 1
    assert not times[labelled].any()
    error = np.sqrt(planned.inclusion * (1 - planned.inclusion) / 4000)
    assert (np.abs(times / 4000 - planned.inclusion)[~labelled] < 4.5 * error[~labelled] + 1e-9).all()
