"""The sample outputs of README and docs are those of the shipped model."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from .markdown_pages import ROOT


@pytest.fixture
def samples() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sample_outputs", ROOT / "scripts" / "sample_outputs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_readme_and_page_show_what_the_shipped_model_says(samples: ModuleType, tmp_path: Path) -> None:
    """Fails after other models are shipped: `make results` writes the samples again."""
    samples.make_slice(tmp_path)
    assert samples.readme_sample(tmp_path) in samples.README.read_text(encoding="utf-8")
    assert samples.run(samples.CLASSIFY, tmp_path).strip() in samples.PAGE.read_text(encoding="utf-8")


def test_the_commands_of_readme_are_those_of_the_sample(samples: ModuleType) -> None:
    text = samples.README.read_text(encoding="utf-8")
    assert samples.SYNTHESISE in text and samples.CLASSIFY in text
