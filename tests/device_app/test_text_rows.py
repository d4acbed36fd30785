"""Results as lines of text: columns under a heading, with the disease by name."""

import re

from edge_ct.device_app.text_rows import heading, text_row


def without_colours(row: str) -> str:
    return re.sub(r"\x1b\[\d+m", "", row)


def test_rows_stand_under_their_heading() -> None:
    assert heading("slice") == "decision  P(COVID-19)  slice"
    assert without_colours(text_row("positive", 0.998, "a.png")) == "positive        99.8%  a.png"
    title = heading("slice", numbered=True, lungs=True)
    assert title == "    id  decision  P(COVID-19)  lungs  slice"
    plain = without_colours(text_row("refer", None, "b.png", number=7, lungs=True, lesion_share=0.125))
    assert plain == "     7  refer               -    12%  b.png"
    assert plain.index("b.png") == title.index("slice")


def test_a_name_cannot_change_other_lines() -> None:
    assert "\n" not in text_row("negative", 0.1, "a\nb\x1b[2J.png")
    assert "a\ufffdb\ufffd[2J.png" in text_row("negative", 0.1, "a\nb\x1b[2J.png")
