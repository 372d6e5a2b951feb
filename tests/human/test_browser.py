"""The form in a real browser: clicked through, typed through, closed and opened again, handed in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from modpo_hpc.cli.main import main
from modpo_hpc.human.answers import TIE, WON_A, ratings_of, read_answers
from modpo_hpc.human.forms import Key, forms_for_everyone, forms_for_many, render
from modpo_hpc.human.sample import PolicyPair, Sample
from modpo_hpc.judging.criteria import load_criteria
from modpo_hpc.study.human import Human
from modpo_hpc.study.judging import Criteria
from tests.human.conftest import CRITERIA
from tests.machine import CHROMIUM
from tests.waiting import wait_until

pytest.importorskip("selenium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM.missing, reason=CHROMIUM.reason),
]

QUESTIONS = tuple(f"q{place}" for place in range(3))
SAMPLE = Sample(PolicyPair("phase2", "Ours", "Base"), QUESTIONS, ("overall",), (), 42, {})
POSTS = {name: f"Post {name}: I feel <b>sad</b> & tired." for name in QUESTIONS}
ANSWERS = {policy: {name: f"{policy[::-1]} about {name}" for name in QUESTIONS} for policy in ("Ours", "Base")}
OURS = "sruO"


@pytest.fixture
def open_browser(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens Chromium on the same profile each time, so that a second one is the browser started again."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    running = []

    def start(width: int = 1280, height: int = 1000) -> Any:
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or ""
        for flag in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--window-size={width},{height}",
        ):
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
        browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        running.append(browser)
        return browser

    yield start
    for browser in running:
        browser.quit()


def make_page(folder: Path, crowd: bool = False, attention: int = 0) -> tuple[Key, Path]:
    forms = forms_for_many(SAMPLE, 1, 3, attention, "s") if crowd else forms_for_everyone(SAMPLE, 1, attention, "s")
    key = Key(SAMPLE.comparison, CRITERIA, forms, 0, "CODE1234" if crowd else None, "s")
    criteria = load_criteria(Criteria(rank=("empathy",)).files, CRITERIA)
    page = folder / "form.html"
    page.write_text(render(forms[0], key, POSTS, ANSWERS, criteria, Human(), None))
    return key, page


def find(browser: Any, selector: str) -> Any:
    return browser.find_element("css selector", selector)


def load(browser: Any, address: str) -> None:
    """Open the page, and wait until it has read what it kept."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(address)
    WebDriverWait(browser, 30).until(lambda one: find(one, "#start").is_displayed())


def choose(browser: Any, criterion: str, value: str) -> None:
    find(browser, f"#set-{criterion} label:has(input[value={value}])").click()


def ours_is(browser: Any) -> str:
    return "A" if find(browser, "#a").text.startswith(OURS) else "B"


def downloaded(folder: Path, name: str) -> Path:
    wait_until((folder / name).exists)
    return folder / name


def test_a_rater_clicks_through_closes_the_browser_and_goes_on(
    tmp_path: Path, open_browser: Callable[..., Any]
) -> None:
    key, page = make_page(tmp_path)
    browser = open_browser()
    load(browser, page.as_uri())
    assert "Begin" in find(browser, "#begin").text
    find(browser, "#begin").click()
    assert find(browser, "#post").text.startswith("Post q")
    assert "<b>sad</b> &" in find(browser, "#post").text

    find(browser, "#next").click()
    assert "Still to be answered: Empathy" in find(browser, "#problem").text
    assert browser.switch_to.active_element.get_attribute("name") == "empathy"
    for criterion in CRITERIA:
        choose(browser, criterion, ours_is(browser))
    find(browser, "#next").click()
    assert find(browser, "#heading").text == "Question 2 of 3"
    assert find(browser, "#progress").get_attribute("value") == "1"
    choose(browser, "empathy", "equal")
    browser.quit()

    browser = open_browser()
    load(browser, page.as_uri())
    assert find(browser, "#begin").text == "Go on"
    find(browser, "#begin").click()
    assert find(browser, "#heading").text == "Question 2 of 3"
    assert find(browser, "#set-empathy input[value=equal]").is_selected()
    find(browser, "#skip").click()
    for criterion in CRITERIA:
        choose(browser, criterion, "equal")
    find(browser, "#next").click()
    assert find(browser, "#endtitle").text == "Not quite done"
    find(browser, "#openlist button").click()
    for criterion in CRITERIA:
        choose(browser, criterion, ours_is(browser))
    find(browser, "#next").click()
    find(browser, "#next").click()
    assert "every question is answered" in find(browser, "#endtitle").text
    find(browser, "#export2").click()

    path = downloaded(tmp_path / "downloads", "answers_rater01.json")
    made = ratings_of(read_answers([path], key, False), key, QUESTIONS)
    by_item = {item.item: item.question_id for item in key.forms[0].key}
    for item, expected in (("i001", WON_A), ("i002", WON_A), ("i003", TIE)):
        place = QUESTIONS.index(by_item[item] or "")
        assert (made.labels[0, place] == expected).all(), item
    raw = json.loads(path.read_text())
    assert raw["finished"] >= raw["started"]
    assert set(raw["seconds"]) == {"i001", "i002", "i003"}
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert severe == []


def test_a_rater_needs_nothing_but_the_keyboard(tmp_path: Path, open_browser: Callable[..., Any]) -> None:
    from selenium.webdriver.common.keys import Keys

    key, page = make_page(tmp_path)
    browser = open_browser()
    load(browser, page.as_uri())
    press = lambda keys: browser.switch_to.active_element.send_keys(keys)  # noqa: E731
    for _ in range(5):
        press(Keys.TAB)
        if browser.switch_to.active_element.get_attribute("id") == "begin":
            break
    press(Keys.ENTER)
    for question in range(3):
        assert find(browser, "#heading").text == f"Question {question + 1} of 3"
        for digit in "1231231":
            press(digit)
        assert browser.switch_to.active_element.get_attribute("id") == "next"
        press("n")
    press(Keys.TAB)
    find(browser, "#show").send_keys(Keys.ENTER)
    raw = json.loads(find(browser, "#raw").get_attribute("value"))
    assert [list(given.values()) for given in raw["answers"].values()] == [
        ["A", "B", "equal", "A", "B", "equal", "A"] for _ in range(3)
    ]
    path = tmp_path / "copied.json"
    path.write_text(json.dumps(raw))
    assert read_answers([path], key, False)


def test_an_answer_outlives_a_browser_that_is_killed(tmp_path: Path, open_browser: Callable[..., Any]) -> None:
    """What the page calls kept is on the disk: no time to tidy up, no time for the browser to write when it likes."""
    import psutil
    from selenium.webdriver.support.ui import WebDriverWait

    _, page = make_page(tmp_path)
    browser = open_browser()
    load(browser, page.as_uri())
    find(browser, "#begin").click()
    choose(browser, "empathy", "B")
    choose(browser, "safety", "equal")
    WebDriverWait(browser, 30).until(lambda one: "2 answers kept in this browser" in find(one, "#saved").text)
    assert "2 not in a file yet" in find(browser, "#saved").text
    for process in psutil.Process(browser.service.process.pid).children(recursive=True):
        process.kill()

    browser = open_browser()
    load(browser, page.as_uri())
    find(browser, "#begin").click()
    assert find(browser, "#set-empathy input[value=B]").is_selected()
    assert find(browser, "#set-safety input[value=equal]").is_selected()
    find(browser, "#export").click()
    assert "all in a file" in find(browser, "#saved").text
    choose(browser, "empathy", "A")
    assert "1 not in a file yet" in find(browser, "#saved").text


def test_a_browser_that_keeps_nothing_says_so(tmp_path: Path, open_browser: Callable[..., Any]) -> None:
    _, page = make_page(tmp_path)
    barred = """Object.defineProperty(window, "localStorage", { get() { throw new Error("barred"); } });
        Object.defineProperty(window, "indexedDB", { get() { throw new Error("barred"); } });"""
    browser = open_browser()
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": barred})
    load(browser, page.as_uri())
    assert find(browser, "#nostore").is_displayed()
    find(browser, "#begin").click()
    choose(browser, "empathy", "B")
    assert "1 answer NOT kept: save them to a file; 1 not in a file yet" in find(browser, "#saved").text


def test_a_crowd_gets_its_code_after_handing_in(tmp_path: Path, open_browser: Callable[..., Any]) -> None:
    key, page = make_page(tmp_path, crowd=True, attention=1)
    browser = open_browser()
    load(browser, page.as_uri() + "?PROLIFIC_PID=abc123")
    assert find(browser, "#participant").get_attribute("value") == "abc123"
    find(browser, "#begin").click()
    for item in key.forms[0].key:
        if item.expected:
            assert "attention check" in find(browser, "#post").text
        for criterion in CRITERIA:
            choose(browser, criterion, item.expected or "A")
        find(browser, "#next").click()
    assert not find(browser, "#codebox").is_displayed()
    find(browser, "#export2").click()
    assert find(browser, "#code").text == "CODE1234"
    path = downloaded(tmp_path / "downloads", "answers_form001.json")
    (handed,) = read_answers([path], key, False)
    assert handed.participant == "abc123"
    assert handed.failed_checks(CRITERIA) == 0

    find(browser, "#again").click()
    browser.execute_script("localStorage.clear()")
    load(browser, page.as_uri())
    find(browser, "#load").send_keys(str(path))
    assert "every question is answered" in find(browser, "#endtitle").text


def test_a_whole_human_study_with_one_rater_at_the_page(
    made_run: Path, tmp_path: Path, open_browser: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """100 questions, seven criteria, six raters: one types every answer in the browser, five are simulated."""
    run = tmp_path / "run"
    shutil.copytree(made_run, run)
    for words in (["sample", "--questions", "100"], ["forms", "--raters", "6"], ["simulate"]):
        assert main(["human", words[0], str(run), *words[1:]]) == 0
    tables_of_simulated = analyzed(run, capsys)
    forms, answers = run / "human" / "forms", run / "human" / "answers"
    assert len(list(forms.iterdir())) == 6
    opinions = json.loads((answers / "answers_rater01.json").read_text())["answers"]
    (answers / "answers_rater01.json").unlink()

    browser = open_browser()
    load(browser, (forms / "rater01.html").as_uri())
    items = list(opinions)
    type_answers(browser, items[:50], opinions)
    load(browser, browser.current_url)
    assert find(browser, "#begin").text == "Go on"
    type_answers(browser, items[50:], opinions)
    assert "every question is answered" in find(browser, "#endtitle").text
    find(browser, "#export2").click()
    shutil.copy(downloaded(tmp_path / "downloads", "answers_rater01.json"), answers)

    assert analyzed(run, capsys) == tables_of_simulated
    judged = pd.read_parquet(run / "human" / "analysis" / "judgments.parquet")
    assert judged.groupby("rater").size().to_dict() == {f"rater{number:02d}": 700 for number in range(1, 7)}
    assert set(judged[~judged.simulated].rater) == {"rater01"}
    assert (judged[judged.rater == "rater01"].seconds > 0).all()


def type_answers(browser: Any, items: list[str], opinions: dict[str, dict[str, str]]) -> None:
    """Go on with the form and answer the next ``items`` with the keyboard alone."""
    from selenium.webdriver.common.action_chains import ActionChains

    find(browser, "#begin").click()
    for item in items:
        assert find(browser, "#heading").text == f"Question {int(item[1:])} of 100"
        keys = "".join({"A": "1", "B": "2", "equal": "3"}[opinions[item][criterion]] for criterion in CRITERIA)
        ActionChains(browser).send_keys(keys + "n").perform()


def analyzed(run: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """All tables of the analysis."""
    capsys.readouterr()
    assert main(["human", "analyze", str(run), "--bootstrap", "200", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["mark"] == "sandbox: simulated raters"
    tables: dict[str, Any] = summary["tables"]
    expected = {"outcomes", "raters_agree", "model_agrees", "three_class", "same_truth", "confusion", "consensus"}
    assert expected | {"alternative"} == set(tables)
    assert {row["criterion"] for row in tables["outcomes"]} == set(CRITERIA)
    assert {row["n"] for row in tables["outcomes"]} == {100}
    return tables


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_is_accessible_at_every_width(width: int, tmp_path: Path, open_browser: Callable[..., Any]) -> None:
    """Names, labels, language, contrast, target sizes, and no sideways scrolling."""
    _, page = make_page(tmp_path)
    browser = open_browser()
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 780, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    load(browser, page.as_uri())
    find(browser, "#begin").click()
    assert find(browser, "html").get_attribute("lang") == "en"
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    for criterion in CRITERIA:
        fieldset = find(browser, f"#set-{criterion}")
        assert fieldset.aria_role == "group"
        assert fieldset.accessible_name
        for words, radio in zip(
            ("Response A", "Response B", "Both equally"), fieldset.find_elements("css selector", "input"), strict=True
        ):
            assert radio.aria_role == "radio"
            assert radio.accessible_name == words
            assert radio.find_element("xpath", "..").size["height"] >= 44
    for button in browser.find_elements("css selector", "button"):
        if button.is_displayed():
            assert button.accessible_name
            assert button.size["height"] >= 44
    faint = browser.execute_script(CONTRAST)
    assert faint == []
    a, b = find(browser, ".pair article:nth-child(1)").rect, find(browser, ".pair article:nth-child(2)").rect
    side_by_side = abs(a["y"] - b["y"]) < 2
    assert side_by_side == (width > 800)


CONTRAST = """
const channel = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : Math.pow((v + 0.055) / 1.055, 2.4); };
const parse = (c) => c.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const ground = (e) => {
  for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c;
  }
  return [255, 255, 255];
};
const faint = [];
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !e.getClientRects().length || e.disabled || ["SCRIPT", "STYLE"].includes(e.tagName)) continue;
  const [x, y] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((p, q) => q - p);
  const ratio = (x + 0.05) / (y + 0.05);
  if (ratio < 4.5) faint.push(e.tagName + "#" + e.id + "." + e.className + " " + ratio.toFixed(2));
}
return faint;
"""
