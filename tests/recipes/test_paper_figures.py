"""The commands that make the paper's figures, compared with those that `make figures` ran before it was a program."""

from pathlib import Path

import pytest

from edge_ct.errors import EdgeCTError
from edge_ct.recipes import paper_figures
from edge_ct.recipes.paper_figures import figure_commands, read_figures_recipe
from edge_ct.train.zoo.architectures import NETWORK_NAMES


def test_the_commands_of_two_networks(tmp_path: Path) -> None:
    synth, vgg, modified, figures = figure_commands(
        read_figures_recipe(), tmp_path, ["vgg16", "modified-densenet121"], ["--size", "72"]
    )
    shape = "--twins --patients 600 --slices 2 --size 128"
    assert synth == f"data synth {tmp_path}/phantoms {shape}".split()
    data = f"--data {tmp_path}/phantoms/slices.csv --split grouped --augment flips"
    assert vgg == (
        f"train vgg16 {data} --learning-rate 1e-4 --epochs 12 --dropout 0 --size 72 "
        f"--out {tmp_path}/runs/vgg16 --resume".split()
    )
    assert modified == (
        f"train modified-densenet121 {data} --learning-rate 1e-3 --epochs 4 --size 72 "
        f"--out {tmp_path}/runs/modified-densenet121 --resume".split()
    )
    runs = f"{tmp_path}/runs/vgg16 {tmp_path}/runs/modified-densenet121"
    assert figures == f"explain figures {runs} --out {tmp_path}/pictures --force".split()


def test_phantoms_are_drawn_once_and_all_networks_exist(tmp_path: Path) -> None:
    (tmp_path / "phantoms").mkdir()
    recipe = read_figures_recipe()
    commands = figure_commands(recipe, tmp_path, [], [])
    assert [words[0] for words in commands] == ["train"] * 11 + ["explain"]
    assert set(recipe.networks) <= set(NETWORK_NAMES)


def test_a_network_that_is_not_in_the_recipe_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EdgeCTError, match="resnet18: not in the recipe"):
        figure_commands(read_figures_recipe(), tmp_path, ["resnet18"], [])
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(EdgeCTError, match="not a valid recipe"):
        read_figures_recipe(tmp_path / "recipe.json")


def test_the_program_runs_the_commands_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    class Output:
        text = ""

    monkeypatch.setattr(paper_figures, "run_command", lambda words: ran.append(words) or Output)
    paper_figures.command.main(["--out", str(tmp_path), "--networks", "xception"], standalone_mode=False)
    assert [words[0] for words in ran] == ["data", "train", "explain"]
    assert ran[1][-7:-3] == ["--size", "72", "--batch", "8"]
