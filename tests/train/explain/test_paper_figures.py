"""`edge-ct explain figures`: several runs on the same slices, and their pictures."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_ct import cli
from edge_ct.train.explain import paper_figures
from edge_ct.train.plots import paper_figure_plots
from edge_ct.train.plots.canvas import add_title, plt


def test_figures_of_several_runs(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], phantom_table: Path
) -> None:
    out = tmp_path / "figures"
    command = ["explain", "figures", str(trained_run), "--limit", "4", "--slices", "2", "--out", str(out), "--json"]
    assert cli.run(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == ["figure-4.png", "figure-5.png", "figure-6.png", "figure-7.png", "networks.csv"]
    header, row = found["rows"]
    assert header == list(paper_figures.NetworkRow.__struct_fields__)
    assert row[:4] == ["customcnn-48", "features", "6", "9"]
    assert int(row[6]) <= int(row[5]) <= 4
    for name in found["files"][:4]:
        assert (out / name).stat().st_size < 300_000
    command = ["explain", "figures", str(trained_run), "--limit", "4", "--data", str(phantom_table)]
    assert cli.run([*command, "--cells", "9", "--out", str(out), "--force", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)["rows"][1]
    assert row[1:4] == ["stage3_conv2_relu", "12", "8"]
    assert row[5:] == ["", "", ""]


def test_networks_are_paired_with_their_modified_forms() -> None:
    generator = np.random.default_rng(0)
    views = paper_figures.phantom_slices(3)
    assert views.labels.tolist() == [1, 1, 1, 0, 0, 0, 0]
    first, twin = (views.pixels[i].astype(int) for i in views.beside)
    lesion = views.lesions[0]
    assert lesion is not None
    assert np.abs(first - twin)[lesion].mean() > 20
    far = cv2.dilate(lesion.astype(np.uint8), np.ones((81, 81))) == 0
    assert np.abs(first - twin)[far].max() == 0
    assert views.first(0, 9) == [3, 4, 5]

    def seen(name: str) -> paper_figures.RunMaps:
        heat = generator.random((7, 3, 3)).astype(np.float32)
        return paper_figures.RunMaps(f"{name}-96", name, "features", heat, None, np.linspace(1, 0, 7), ())

    runs = [seen(name) for name in ("modified-vgg16", "vgg16", "mobilenetv2")]
    assert paper_figures.pair_with_modified(runs) == [(runs[1], runs[0]), (runs[2], None)]
    table = paper_figures.attended_rows(runs, views)
    assert [(one.network, one.label, one.n) for one in table] == [
        ("vgg16-96 / modified-vgg16-96", "negative phantoms", 4),
        ("vgg16-96 / modified-vgg16-96", "positive phantoms", 3),
        ("vgg16-96 / modified-vgg16-96", "both", 7),
    ]
    assert runs[1].right(views) == 6  # P .5 of the fourth is positive, and that one is negative


def test_a_map_that_is_the_lesion_points_at_it_and_its_mirror_image_does_not() -> None:
    views = paper_figures.phantom_slices(4)
    maps = np.zeros((9, 28, 28), np.float32)
    for i, lesion in enumerate(views.lesions):
        if lesion is not None:
            maps[i] = cv2.resize(lesion.astype(np.float32), (28, 28), interpolation=cv2.INTER_AREA)
    p = np.array([0.9, 0.5, 0.4, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1])  # the third is missed, the fifth a false alarm
    one = paper_figures.RunMaps("run", "mobilenetv2", "features", maps, None, p, ())
    row = paper_figures.network_row(one, views)
    assert (row.right, row.called, row.hits) == (7, 3, 3)
    row = paper_figures.network_row(dataclasses.replace(one, maps=maps[:, ::-1]), views)
    assert row.hits is not None
    assert row.hits < 3
    unknown = dataclasses.replace(views, lesions=(None,) * 9)
    assert (paper_figures.network_row(one, unknown).called, paper_figures.network_row(one, unknown).hits_by_chance) == (
        None,
        None,
    )


def test_one_cell_of_one_slice_does_not_darken_all_others() -> None:
    maps = np.linspace(0, 1, 1001, dtype=np.float32).reshape(7, 11, 13)
    assert paper_figure_plots.scale_end(maps) == pytest.approx(0.98, abs=2e-3)
    maps[6, 10, 12] = 1000
    assert paper_figure_plots.scale_end(maps) == pytest.approx(0.98, abs=2e-3)
    assert paper_figure_plots.scale_end(np.zeros_like(maps)) == 0


@pytest.mark.parametrize("width", [3, 9])
def test_a_title_is_within_its_figure(width: float) -> None:
    figure, axis = plt.subplots(figsize=(width, 3), layout="constrained")
    add_title(figure, "What layers along the depth respond to, first to last: " * 3)
    figure.canvas.draw()
    box, title = axis.get_window_extent(), figure._suptitle.get_window_extent()
    assert title.x0 >= 0
    assert title.x1 <= figure.bbox.x1
    assert title.y0 >= box.y1
    plt.close(figure)
