"""Names of any characters: the page shows them as text, Markdown and the terminal on one line without commands."""

import html as entities
import io
from html.parser import HTMLParser

from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console

from jaxopt_study.report import html, screen, table
from jaxopt_study.report.screen import Part, Screen, Sentence
from jaxopt_study.report.table import Table
from jaxopt_study.terminal import visible

PIECES = (
    *("<script>alert(1)</script>", "</td>", "&amp;", "<!--", "-->", "{{ 1 }}", "{% x %}", "=1+1", "'", '"'),
    *("[red]", "[/red]", "[link=x]", "\x1b[31m", "\x9b", "\n", "\r", "\t", "\0", "|", "\\", "`", "x" * 300),
    *("\u202e", "\u05e9\u05dc\u05d5\u05dd", "\ud800"),  # right to left; half of a character
)
NAMES = (
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=12)), min_size=1, max_size=4)
    .map("".join)
    .filter(str.strip)
)
CASES = settings(max_examples=1000, deadline=None, derandomize=True, database=None)
TABLE_OF = html.templates().get_template("table.html.jinja").module.table_of


class Reader(HTMLParser):
    """Collects a page's elements, and the text of its cells."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.cells, self.within = [], [], False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.within = tag in ("th", "td")
        if self.within:
            self.cells.append("")

    def handle_endtag(self, tag):
        self.within = self.within and tag not in ("th", "td")

    def handle_data(self, data):
        if self.within:
            self.cells[-1] += data


def named(name):
    return Table(name, ("name", name), [(name, name)], (name,), reasons=(name,), left=(name,))


PLAIN = Reader(str(TABLE_OF(named("plain"), 3))).elements


@CASES
@given(NAMES)
@example("</script><script>alert(1)</script>")
def test_the_page_shows_it_as_text(name):
    page = str(TABLE_OF(named(name), 3))
    read = Reader(page)
    assert read.elements == PLAIN
    assert read.cells[2:] == [visible(name)] * 2
    assert all(c.isprintable() or c == "\n" for c in entities.unescape(page))


@settings(CASES, max_examples=250)
@given(NAMES)
def test_markdown_and_the_terminal_show_it_on_one_line(name):
    text = table.markdown(named(name))
    lines = [line for line in text.splitlines() if line]
    assert len(lines) == 6  # title, columns, rule, row, note, reason
    assert "<" not in text
    assert all(c.isprintable() or c == "\n" for c in text)
    console = Console(file=io.StringIO(), width=80, color_system=None, force_terminal=False)
    screen.show(Screen([Sentence(name)], [Part([named(name)], [name])]), console)
    shown = console.file.getvalue()
    assert all(c.isprintable() or c == "\n" for c in shown)
    if len(visible(name)) < 20 and "[" in name:
        assert visible(name).strip() in shown
