"""The page of a run in a browser, as a reader meets it.

Screenshots are kept in the folder that $PAGE_SCREENSHOTS names, or in pytest's temporary one.
"""

import csv
import os
import shlex
import shutil
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from jaxopt_study import compare as command_line
from jaxopt_study import session
from jaxopt_study.bench import environment, record
from jaxopt_study.config import Config, check, command
from jaxopt_study.report import charts, html
from jaxopt_study.report.axes import Axis
from jaxopt_study.report.figures import Figure
from jaxopt_study.report.html import Chapter, Reproduction
from jaxopt_study.report.screen import Sentence
from jaxopt_study.report.table import Table
from tests.cases import a_record

KEPT = Path(__file__).parent / "kept" / "main_job"
LARGEST = 5e6
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "[red]not red[/red]",
    "\x1b[31mred\x1b[0m",
    "x" * 300,
    "\u05e9\u05dc\u05d5\u05dd \u202eabc",
    '"><img src=x onerror=alert(1)>',
    "=1+1",
    "{{ 7 * 7 }}",
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRAWN = "[...document.querySelectorAll('.chart')].every(place => place.querySelector('svg.marks'))"

WITHIN = "width => [...document.querySelectorAll('svg.marks')].every(c => c.getBoundingClientRect().right <= width)"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a kept run, drawn again."""
    folder = Path(shutil.copytree(KEPT, tmp_path_factory.mktemp("page") / "run"))
    session.report(environment.plan_of(environment.read(folder)), folder)
    return folder


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The file of a page in which every name is hostile."""
    rows = [{"name": name, "group": "JAX", "value": 1.0 + place, "case": name} for place, name in enumerate(HOSTILE)]
    grown = [{"x": x, "y": x, "group": "JAX", "panel": name} for name in HOSTILE for x in (1.0, 2.0)]
    across = Axis("x")
    figures = [
        Figure("points", HOSTILE[0], HOSTILE[1], partial(charts.points, rows, across)),
        Figure("lines", HOSTILE[1], HOSTILE[0], partial(charts.lines, grown, across, across)),
    ]
    table = Table(HOSTILE[0], ("name", HOSTILE[0]), [(name, name) for name in HOSTILE], HOSTILE, reasons=HOSTILE)
    chapters = [Chapter(name, [table], figures if place == 0 else [], name) for place, name in enumerate(HOSTILE)]
    file = tmp_path_factory.mktemp("hostile") / "report.html"
    sentences = [Sentence(name, "bad") for name in HOSTILE]
    file.write_text(html.text(sentences, chapters, Reproduction(HOSTILE[0])), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def browser():
    """A browser, started once."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def opened(browser):
    """Open a file; what went wrong in the browser is collected."""
    contexts, wrong = [], []

    def dismissed(dialog):
        wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def open_page(file, width=1400, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", dismissed)
        page.on("request", lambda sent: sent.url.startswith(("file:", "data:", "blob:")) or wrong.append(sent.url))
        page.goto(file.as_uri())
        page.wait_for_function(DRAWN, timeout=120_000)  # a busy machine takes its time
        return page

    yield open_page, wrong
    for context in contexts:
        context.close()


def test_the_page_is_one_small_file_that_asks_for_nothing(run):
    page = (run / html.PAGE).read_text()
    assert len(page.encode()) < LARGEST
    own = page.split("<script>const")[0]  # what follows is Vega, whose texts name addresses that it does not open
    assert "http://" not in own.replace("http://www.w3.org", "")
    assert "src=" not in own
    assert own.count("application/json") == own.count('class="chart"') >= 4


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (1400, "dark"), (400, "light"), (400, "dark")])
def test_a_browser_draws_every_chart_and_nothing_overflows(run, opened, width, scheme, tmp_path):
    open_page, wrong = opened
    page = open_page(run / html.PAGE, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(WITHIN, width)
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, back[4:-1].split(","))) < 384) == (scheme == "dark")
    axis = page.evaluate("getComputedStyle(document.querySelector('.role-axis-title text')).fill")
    assert (sum(map(int, axis[4:-1].split(","))) > 384) == (scheme == "dark")
    kept = Path(os.environ.get("PAGE_SCREENSHOTS", tmp_path))
    kept.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=kept / f"report-{width}-{scheme}.png", full_page=True)
    assert wrong == []


def test_a_reader_sorts_a_table_takes_it_away_and_asks_a_point(run, opened, tmp_path):
    open_page, wrong = opened
    page = open_page(run / html.PAGE)
    table = page.locator("section.table").first
    header = table.locator("thead th").nth(4)
    assert "JAX" in header.inner_text()
    seconds = []
    for order in ("ascending", "descending"):
        header.locator("button").click()
        assert header.get_attribute("aria-sort") == order
        seconds.append([html_seconds(cell) for cell in table.locator("tbody td:nth-child(5)").all_inner_texts()])
    assert seconds[0] == sorted(seconds[0]) == seconds[1][::-1]
    assert len({*seconds[0]}) > 2
    with page.expect_download() as waited:
        table.locator("[data-csv]").click()
    waited.value.save_as(tmp_path / "table.csv")
    rows = list(csv.reader((tmp_path / "table.csv").read_text(encoding="utf-8-sig").splitlines()))
    assert rows[0] == [words.rstrip(" ▲▼") for words in table.locator("thead th").all_inner_texts()]
    assert len(rows) == 1 + table.locator("tbody tr").count()
    point = page.locator("[data-spec='spec-1-2'] .mark-symbol.role-mark path").first
    point.hover()
    answer = page.locator("#vg-tooltip-element.visible").inner_text()
    assert "optimizers/adam/jax/native_scan" in answer
    assert "samples" in answer
    page.set_viewport_size({"width": 500, "height": 900})  # charts follow
    page.wait_for_function(WITHIN, arg=500)
    assert wrong == []


def html_seconds(cell):
    number, unit = cell.split()
    return round(float(number) * {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9}[unit], 3)


def test_a_page_reads_well_without_eyes(run, opened):
    open_page, _ = opened
    page = open_page(run / html.PAGE)
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.evaluate("[...document.querySelectorAll('th')].every(th => th.scope)")
    named = "place => place.parentElement.role == 'img' && place.parentElement.ariaLabel.length > 20"
    assert page.evaluate(f"[...document.querySelectorAll('.chart')].every({named})")


@pytest.mark.parametrize("width", [400, 1400])
def test_hostile_names_are_shown_as_text(hostile, opened, width):
    open_page, wrong = opened
    page = open_page(hostile, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    text = page.evaluate("document.body.textContent")
    for name in HOSTILE[:4]:
        assert name in text
    assert "{{ 7 * 7 }}" in text
    assert "\\x1b[31mred" in text
    assert "\x1b" not in hostile.read_text()
    assert "\\u202e" in text
    assert page.locator("main script:not([type])").count() == 0
    assert page.locator("main img").count() == 0
    assert wrong == []


@pytest.mark.parametrize("records", [[], [a_record(status="failed", reason=HOSTILE[1], first_seconds=float("nan"))]])
def test_a_run_without_anything_to_show_has_a_page(tmp_path, records):
    where = environment.read(KEPT)
    environment.write(tmp_path, where)
    (tmp_path / record.RECORDS).touch()
    record.append(tmp_path, records)
    session.report(environment.plan_of(where), tmp_path)
    page = (tmp_path / html.PAGE).read_text()
    assert "The run is not finished" in page
    assert ("FAILED" in page) == bool(records)
    assert "<script>alert" not in page


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"studies": ("hessian", "newton"), "dtype": "float64"},
        {
            "optimizers": ("adam", "AdamW(lr=0.1)"),
            "epochs": 3,
            "repeats": 5,
            "profile": "smoke",
            "frameworks": ("jax",),
        },
        {"workload": "digits-mlp", "batch_size": 32, "learning_rate": 0.01, "seed": 4, "model": "mlp:8"},
    ],
)
def test_the_command_of_a_page_asks_for_the_same_plan(options):
    plan = check(Config(**options))
    _, bound, _ = command_line.app.parse_args(shlex.split(command(plan))[3:])
    assert check(bound.arguments.get("config", Config())) == plan


def test_a_users_own_data_have_a_placeholder_in_the_command():
    inputs = np.random.default_rng(0).random((60, 3))
    config = Config(data=(inputs, inputs.sum(axis=1)), model="mlp:4", standardize=True, studies=("optimizers",))
    words = command(check(config))
    assert words.endswith("--studies optimizers --model mlp:4 --data FILE --target COLUMN --standardize")
