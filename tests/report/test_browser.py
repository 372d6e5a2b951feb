"""The page in a real Chromium, at the width of a desk and of a phone."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from modpo_hpc.run import Run
from tests.machine import CHROMIUM
from tests.waiting import PATIENCE

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM.missing, reason=CHROMIUM.reason),
]

# A page that shows the report in a frame of a given width and writes down what the browser made of it
MEASURE = """<!DOCTYPE html><body><pre id="out"></pre>
<iframe id="f" src="%s" style="border:0;width:%dpx;height:900px"></iframe>
<script>
document.getElementById("f").onload = function () {
  const page = this.contentDocument, view = this.contentWindow, root = page.documentElement;
  const inside = (one) => one.closest(".scroll") || one.closest("details:not([open])");
  const wide = [...page.querySelectorAll("body *")].filter(
    (one) => !inside(one) && one.getBoundingClientRect().right > root.clientWidth + 1);
  view.scrollTo(0, 2000);
  const mark = page.querySelector(".mark").getBoundingClientRect();
  const small = [...page.querySelectorAll("p, li, td, th, figcaption, a")].filter(
    (one) => parseFloat(view.getComputedStyle(one).fontSize) < 12);
  const links = [...page.querySelectorAll("nav a")].map((one) => page.querySelector(one.getAttribute("href")) !== null);
  document.getElementById("out").textContent = JSON.stringify({
    scrollWidth: root.scrollWidth, clientWidth: root.clientWidth, wide: wide.map((one) => one.outerHTML.slice(0, 80)),
    images: [...page.images].map((one) => [one.complete && one.naturalWidth > 0, one.alt.length > 10,
      one.getBoundingClientRect().width]),
    resources: view.performance.getEntriesByType("resource").filter((one) => !one.name.startsWith("data:")).length,
    cells: [...page.querySelectorAll(".matrix td a")].map((one) => one.getBoundingClientRect().height),
    mark: mark.top, small: small.length, links: links,
    headings: [...page.querySelectorAll("h1, h2")].map((one) => one.textContent),
    opened: (() => { const one = page.querySelector("details"); one.open = true;
      return one.querySelector("table").getBoundingClientRect().height; })(),
  });
};
</script></body>"""


ACCESSIBLE = Path(__file__).with_name("accessible.html").read_text()


def measured(report: Path, width: int, folder: Path, what: str = MEASURE) -> dict[str, Any]:
    wrapper = folder / f"measure_{width}.html"
    wrapper.write_text(what % (report.as_uri(), width))
    done = subprocess.run(
        [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=20000",
            "--window-size=1600,1000",
            "--dump-dom",
            wrapper.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    assert found[1], done.stderr[-2000:]
    return dict(json.loads(html.unescape(found[1])))


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_reads_at_this_width(reported: Run, tmp_path: Path, width: int) -> None:
    seen = measured(reported.folder("report") / "report.html", width, tmp_path)
    assert seen["scrollWidth"] <= seen["clientWidth"], seen["wide"]
    assert seen["wide"] == []
    assert len(seen["images"]) > 5
    assert min(seen["cells"]) >= 24, "a cell of a matrix is too small to be hit with a finger"
    assert all(loaded and described for loaded, described, _ in seen["images"])
    assert min(shown for _, _, shown in seen["images"]) > 0.7 * min(width, 430)
    assert seen["resources"] == 0
    assert abs(seen["mark"]) < 2
    assert seen["small"] == 0
    assert seen["links"]
    assert all(seen["links"])
    assert "How sure the votes are" in seen["headings"]
    assert seen["opened"] > 40


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page", ["report.html", "cases.html"])
def test_the_page_is_accessible(reported: Run, tmp_path: Path, page: str, width: int) -> None:
    seen = measured(reported.folder("report") / page, width, tmp_path, ACCESSIBLE)
    assert seen["texts"] > (3000 if page == "report.html" else 100)
    assert seen["active"] > (40 if page == "report.html" else 10)
    assert seen["levels"].count(1) == 1
    assert seen["language"] == "en"
    assert seen["title"]
    faults = ("faint", "gaps", "unnamed", "tables", "stuck", "bare", "small", "twice")
    assert {name: seen[name] for name in faults if seen[name]} == {}
    assert seen["shown"] <= 0


def test_what_is_not_accessible_is_found(tmp_path: Path) -> None:
    """The measure above can fail: a page with one fault of each kind."""
    (tmp_path / "bad.html").write_text(
        "<!DOCTYPE html><html lang='en'><title>t</title><style>a { outline: none }</style><body><h1>A</h1><h3>B</h3>"
        "<p style='color:#888'>faint</p><img src='data:,'><table><tr><th>x</th></tr></table>"
        "<div style='overflow-x:auto;width:50px'><div style='width:90px'>wide</div></div>"
        "<nav><a href='#i'>n</a></nav><p id='i'></p><p id='i'></p></body></html>"
    )
    seen = measured(tmp_path / "bad.html", 390, tmp_path, ACCESSIBLE)
    faults = ("faint", "gaps", "unnamed", "tables", "stuck", "bare", "small", "twice")
    assert {name: len(seen[name]) for name in faults} == dict.fromkeys(faults, 1)
