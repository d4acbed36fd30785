"""Model cards as HTML: the part of Markdown that they use, and nothing that a card could smuggle in."""

from __future__ import annotations

from edge_ct.reporting.markdown import find_table, render_markdown

CARD = """# Title

First line
goes on with `a < b` and **bold *both* words**.

## Use
- one
  goes on
- two <script>alert(1)</script>

1. first
2. second

| split | n |
| --- | ---: |
| grouped | 1 |

| model | Positive | refer | negative, n |
|---|---|---|---|
| a | [x](http://example.org) | 2 | 3 |
"""


def test_headings_lists_tables_and_text() -> None:
    html = render_markdown(CARD, 'Card "1"', top=3)
    assert "Title" not in html
    expected = "<p>First line goes on with <code>a &lt; b</code> and <strong>bold <em>both</em> words</strong>.</p>"
    assert expected in html
    assert "<h3>Use</h3>" in html
    assert "<ul><li>one goes on</li><li>two &lt;script&gt;alert(1)&lt;/script&gt;</li></ul>" in html
    assert "<ol><li>first</li><li>second</li></ol>" in html
    for number in (1, 2):
        named = f'aria-label="Card &quot;1&quot; {number}"><table>'
        assert html.count(f'<div class="wide" tabindex="0" role="region" {named}') == 1
    assert '<thead><tr><th scope="col">split</th><th scope="col">n</th></tr></thead>' in html
    assert '<tbody><tr><th scope="row">grouped</th><td>1</td></tr></tbody>' in html
    assert '<tr><th scope="row">a</th><td>x</td><td>2</td><td>3</td></tr>' in html


def test_the_table_of_three_outcomes_is_found_by_its_columns() -> None:
    found = find_table(CARD, ("positive", "refer", "negative"))
    assert found is not None
    assert found.startswith("| model | Positive")
    assert find_table(CARD, ("split", "absent")) is None


def test_no_text_is_no_page() -> None:
    assert render_markdown("", "Card") == ""


def test_tables_have_different_names_and_no_empty_heading() -> None:
    table = "| | b |\n| - | - |\n| x | 1 |\n"
    html = render_markdown(f"{table}\n{table}", "Card")
    assert html.count('aria-label="Card 1"') == html.count('aria-label="Card 2"') == 1
    assert html.count('<tr><td></td><th scope="col">b</th></tr>') == 2
    assert 'aria-label="Card"' in render_markdown(table, "Card")
