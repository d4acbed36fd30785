"""The page: everything it shows is what the commands printed, and it needs nothing from outside."""

import base64
import dataclasses
import html.parser
import json
import re
from pathlib import Path

import pytest

from edge_ct import cli
from edge_ct.recipes.demo import page

EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "demo-report.html"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def story(trained_run: Path, phantom_table: Path, tmp_path_factory: pytest.TempPathFactory) -> page.DemoResults:
    folder = tmp_path_factory.mktemp("story")
    model = folder / "model.tflite"

    def run(*arguments: object) -> list[dict]:
        words = [*map(str, arguments), "--json"]
        with pytest.MonkeyPatch.context() as patch:
            printed: list[str] = []
            patch.setattr("click.echo", lambda text="", **options: None if options.get("err") else printed.append(text))
            assert cli.run(words) == 0
        return [json.loads(line) for line in printed]

    (gate,) = run("convert", trained_run, "--out", model, "--max-drop", 100)
    scores = run("evaluate", trained_run) + run("evaluate", model, "--data", phantom_table)
    (latency,) = run("benchmark", model, "--quick")
    shown = sorted((phantom_table.parent / "COVID").iterdir())[:3]
    results = run("classify", *shown, "--model", model, "--heatmap", folder / "maps")
    names = ("CustomCNN fp32", "MobileNetV2 fp32", "Ensemble fp32")
    return page.DemoResults(
        audit=run("data", "check", phantom_table)[0],
        gate=gate["gate"],
        scores={**dict.fromkeys(names, scores[0]), "MobileNetV2 int8": scores[1]},
        latency=dict.fromkeys(("CustomCNN fp32", "MobileNetV2 fp32", "MobileNetV2 int8"), latency),
        results=results,
        heatmaps=folder / "maps",
        runs={"CustomCNN": trained_run},
        commands=["edge-ct convert <run>"],
        seconds=1.0,
        processor_seconds=90.0,
    )


class Links(html.parser.HTMLParser):
    """Collects what a browser would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.images = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.images += tag == "img"
        self.found += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]
        self.found += [tag] * (tag in ("script", "link", "iframe"))


def test_the_page_is_self_contained(story: page.DemoResults, tmp_path: Path) -> None:
    page.write_demo_page(tmp_path / "report.html", story)
    parser = Links()
    text = (tmp_path / "report.html").read_text()
    parser.feed(text)
    assert parser.images == 5
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in parser.found)
    assert text.count("<svg") == 2


def test_the_page_says_what_was_measured_and_what_not(story: page.DemoResults, tmp_path: Path) -> None:
    page.write_demo_page(tmp_path / "report.html", story)
    text = (tmp_path / "report.html").read_text()
    int8 = story.scores["MobileNetV2 int8"]
    value, low = (100 * int8["sensitivity"][end] for end in ("value", "low"))
    assert f"{value:.1f} % [{low:.1f}, " in text
    assert f"n = {int8['n']}, grouped" in text
    assert f"{story.latency['MobileNetV2 int8']['model_only']['p50_ms']:.2f} ms" in text
    assert "Not a medical device" in text
    assert "With 1.5 minutes of processor time" in text
    assert "Not measured: the ensemble's latency" in text
    assert "edge-ct convert &lt;run&gt;" in text


def test_a_rejected_slice_is_shown_without_a_map(story: page.DemoResults, tmp_path: Path) -> None:
    rejected = {**story.results[0], "decision": "rejected", "reason": "too <dark>", "probability": None}
    (tmp_path / "none").mkdir()
    without = dataclasses.replace(story, results=[rejected], heatmaps=tmp_path / "none")
    page.write_demo_page(tmp_path / "report.html", without)
    text = (tmp_path / "report.html").read_text()
    assert "called <strong>rejected</strong> (too &lt;dark&gt;).<" in text
    assert base64.b64encode(Path(rejected["source"]).read_bytes()).decode() in text


def test_the_example_report_of_the_documentation_has_the_same_parts(story: page.DemoResults, tmp_path: Path) -> None:
    """Fails after the page has other parts: `make example-report` makes the example again."""
    page.write_demo_page(tmp_path / "report.html", story)
    text, example = (tmp_path / "report.html").read_text(), EXAMPLE.read_text(encoding="utf-8")
    assert re.findall("<h2>.*?</h2>", example) == re.findall("<h2>.*?</h2>", text)
    assert "edge-ct data synth demo/phantoms" in example
    assert not re.search(r"\B/(tmp|home|root|work)/", re.sub(r"base64,[^\"']*", "", example))
