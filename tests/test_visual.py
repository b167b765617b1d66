import os
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from vidpred import visual
from vidpred.strips import Strip, strips


def moving_square(frames: int, channels: int = 1, height: int = 24, width: int = 32) -> Tensor:
    """A bright 8x8 square that moves one pixel to the right at every frame."""
    clip = torch.full((frames, channels, height, width), 0.2)
    for t in range(frames):
        clip[t, :, 4:12, t : t + 8] = torch.tensor([1.0, 0.6, 0.0])[:channels, None, None]
    return clip


def pixels(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def drawn_at(figure: Figure, row: int, column: int, y: float, x: float, columns: int) -> np.ndarray:
    """Colour on the canvas at relative position (y, x) of a frame of the strip."""
    image = figure.axes[0].images[row * columns + column]
    left, right, bottom, top = image.get_extent()
    point = (left + x * (right - left), top + y * (bottom - top))
    across, up = figure.axes[0].transData.transform(point)
    canvas = pixels(figure)
    return canvas[int(len(canvas) - up), int(across)]


@pytest.mark.parametrize("channels", [1, 3])
def test_filmstrip_draws_every_frame_where_its_label_says(channels: int) -> None:
    clip = moving_square(6, channels)
    known, future = clip[:3], clip[3:]
    prediction = future.clone()
    prediction[2, :, 16:, 16:] += 0.4
    figure = visual.filmstrip(known, future, prediction)

    texts = [text.get_text() for text in figure.axes[0].texts]
    assert " ".join(texts) == "inputs t=1 t=2 t=3 truth t=4 t=5 t=6 prediction error"
    square = [255, 153, 0] if channels == 3 else [255] * 3
    np.testing.assert_allclose(drawn_at(figure, 0, 0, 8 / 24, 4 / 32, 3), square, atol=2)
    np.testing.assert_allclose(drawn_at(figure, 0, 2, 8 / 24, 1 / 32, 3), [51] * 3, atol=2)
    np.testing.assert_allclose(drawn_at(figure, 1, 2, 20 / 24, 24 / 32, 3), [51] * 3, atol=2)
    np.testing.assert_allclose(drawn_at(figure, 2, 2, 20 / 24, 24 / 32, 3), [153] * 3, atol=2)
    brightest = drawn_at(figure, 3, 2, 20 / 24, 24 / 32, 3)
    black = drawn_at(figure, 3, 0, 20 / 24, 24 / 32, 3)
    expected = matplotlib.colormaps["inferno"]([1.0, 0.0], bytes=True)[:, :3]
    np.testing.assert_allclose([brightest, black], expected, atol=3)
    assert [tick.get_text() for tick in figure.axes[1].get_yticklabels()] == ["0", "0.4"]


def test_filmstrip_keeps_the_shape_of_frames_and_one_size_for_all() -> None:
    clip = moving_square(7)
    figure = visual.filmstrip(clip[:2], clip[2:], clip[2:])
    boxes = {
        (round(right - left, 6), round(bottom - top, 6))
        for left, right, bottom, top in (image.get_extent() for image in figure.axes[0].images)
    }
    assert boxes == {(2.0, 1.5)}  # 32 x 24 pixels
    x, y = figure.axes[0].transData.transform([(0, 0), (1, 1)]).T
    assert abs(x[1] - x[0]) == pytest.approx(abs(y[1] - y[0]))


def test_filmstrip_of_a_long_horizon_shows_first_and_last() -> None:
    clip = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    figure = visual.filmstrip(clip[:10], clip[10:], clip[10:])
    labels = [text.get_text() for text in figure.axes[0].texts]
    truth = labels[labels.index("truth") + 1 : labels.index("prediction")]
    assert len(truth) == 20
    assert (truth[0], truth[-1]) == ("t=11", "t=60")


def test_a_perfect_prediction_has_no_error_to_scale(tmp_path: Path) -> None:
    clip = moving_square(4)
    figure = visual.filmstrip(clip[:2], clip[2:], clip[2:])
    assert [tick.get_text() for tick in figure.axes[1].get_yticklabels()] == ["0", "1"]
    visual.gif(clip[:2], clip[2:], clip[2:], tmp_path / "perfect.gif")


def test_figures_leave_matplotlib_as_it_was(tmp_path: Path) -> None:
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    clip = moving_square(4)
    visual.save_figure(visual.filmstrip(clip[:2], clip[2:], clip[2:]), tmp_path / "strip.png")
    visual.save_figure(visual.plot_curves({"a": {"MSE": [1.0]}}), tmp_path / "curves.png")
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []


def test_saved_figure_is_a_whole_picture(tmp_path: Path) -> None:
    clip = moving_square(4)
    figure = visual.filmstrip(clip[:2], clip[2:], clip[2:])
    path = tmp_path / "runs" / "prediction.png"
    visual.save_figure(figure, path)
    with Image.open(path) as picture:
        picture.load()
        assert picture.format == "PNG"
        assert picture.size == tuple(round(128 * side) for side in figure.get_size_inches())
    assert os.listdir(path.parent) == ["prediction.png"]


def test_failed_writes_keep_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, file: Path, **options: object) -> None:
        Path(file).write_bytes(b"half a picture")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    monkeypatch.setattr(Image.Image, "save", fail)
    clip = moving_square(4)
    for name, write in {
        "strip.png": lambda path: visual.save_figure(Figure(), path),
        "clip.gif": lambda path: visual.gif(clip[:2], clip[2:], clip[2:], path),
    }.items():
        path = tmp_path / name
        path.write_bytes(b"old")
        with pytest.raises(OSError, match="disk full"):
            write(path)
        assert path.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["clip.gif", "strip.png"]


@pytest.mark.parametrize("channels", [1, 3])
def test_gif_shows_every_frame_and_where_prediction_starts(tmp_path: Path, channels: int) -> None:
    clip = moving_square(5, channels)
    prediction = clip[3:].clone()
    prediction[:, :, 16:, 16:] = 0.9
    path = tmp_path / "clip.gif"
    visual.gif(clip[:3], clip[3:], prediction, path)

    with Image.open(path) as animation:
        durations, frames = [], []
        for t in range(animation.n_frames):
            animation.seek(t)
            durations.append(animation.info["duration"])
            frames.append(np.asarray(animation.convert("RGB")).astype(int))
    assert durations == [200, 200, 200, 200, 1000]
    scale, left, top, width = 6, 14, 52, 32 * 6  # 32 pixels wide become 192
    assert frames[0].shape == (52 + 24 * scale + 14, 14 + 3 * (width + 14), 3)

    def at(t: int, panel: int, y: int, x: int) -> np.ndarray:
        column = left + panel * (width + 14) + x * scale + scale // 2
        return frames[t][top + y * scale + scale // 2, column]

    square = [255, 153, 0] if channels == 3 else [255] * 3
    for t in range(5):
        for panel in (0, 1):
            np.testing.assert_allclose(at(t, panel, 8, t), square, atol=8)
            if t:
                np.testing.assert_allclose(at(t, panel, 8, t - 1), [51] * 3, atol=8)
        corner = frames[t][top - 2, left - 2]  # the border round the first panel
        np.testing.assert_allclose(corner, [127] * 3 if t < 3 else [224, 123, 0], atol=8)
    np.testing.assert_allclose(at(4, 0, 20, 24), [51] * 3, atol=8)
    np.testing.assert_allclose(at(4, 1, 20, 24), [230] * 3, atol=8)
    assert at(4, 2, 20, 24).sum() > 500  # the largest error is bright,
    assert at(4, 2, 8, 24).sum() < 30  # none is dark,
    assert at(2, 2, 20, 24).sum() < 30  # and known frames have none


def test_gif_shrinks_large_frames(tmp_path: Path) -> None:
    clip = moving_square(2, 3, 300, 600)
    visual.gif(clip[:1], clip[1:], clip[1:], tmp_path / "large.gif")
    with Image.open(tmp_path / "large.gif") as animation:
        assert animation.size == (14 + 3 * (400 + 14), 52 + 200 + 14)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": torch.zeros(1, 3, 1, 8, 8)}, "context must be one sequence"),
        ({"prediction": torch.zeros(4, 1, 8, 8)}, "must have one shape"),
        ({"context": torch.zeros(3, 1, 8, 9)}, "must have one shape"),
        ({"truth": torch.zeros(2, 2, 8, 8)}, "grey or colour"),
        ({"prediction": torch.full((2, 1, 8, 8), float("nan"))}, "not finite"),
    ],
)
def test_bad_clips_are_refused(change: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    clips = {
        "context": torch.zeros(3, 1, 8, 8),
        "truth": torch.zeros(2, 1, 8, 8),
        "prediction": torch.zeros(2, 1, 8, 8),
    } | change
    with pytest.raises(ValueError, match=message) as raised:
        visual.filmstrip(**clips)
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=message):
        visual.gif(**clips, path=tmp_path / "clip.gif")
    assert os.listdir(tmp_path) == []


def test_curves_have_a_panel_per_metric_and_a_line_per_model() -> None:
    figure = visual.plot_curves(
        {
            "stgru": {"MSE": [1.0, 2.0, 3.0], "SSIM": [0.9, 0.8, 0.7]},
            "copy last frame": {"MSE": torch.tensor([2.0, 4.0])},
        }
    )
    assert [axes.get_title() for axes in figure.axes] == ["MSE", "SSIM"]
    first, second = figure.axes[0].lines
    np.testing.assert_array_equal(first.get_xydata(), [[1, 1], [2, 2], [3, 3]])
    np.testing.assert_array_equal(second.get_xydata(), [[1, 2], [2, 4]])
    assert len(figure.axes[1].lines) == 1
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "stgru",
        "copy last frame",
    ]
    with pytest.raises(ValueError, match="at least one model"):
        visual.plot_curves({})


def test_dollars_in_names_are_no_formula() -> None:
    name = r"a$b_$"
    strip = Strip(name, np.zeros((1, 8, 8)), [name], (0, 1))
    for figure in (
        visual.plot_curves({name: {"MSE": [1.0]}, "copy": {"MSE": [2.0]}}),
        strips([strip], title=name),
    ):
        pixels(figure)  # would raise what matplotlib's parser says of the formula


def test_comparison_leaves_empty_what_there_is_not() -> None:
    truth, prediction = torch.zeros(1, 96, 192), torch.full((1, 96, 192), 0.75)
    pictures = [
        visual.comparison(*pair, "1 frame ahead")
        for pair in ((truth, prediction), (truth, None), (None, prediction))
    ]
    shape = (3, 52 + 96 + 14, 14 + 3 * (192 + 14))
    assert all(picture.shape == shape and picture.dtype == torch.uint8 for picture in pictures)
    grey, orange = [127, 127, 127], [224, 123, 0]
    assert [p[:, 50, 100].tolist() for p in pictures] == [orange, grey, orange]
    empty, last = [240] * 3, [252, 254, 164]  # errors beyond 0.25 have the last colour
    black, light = [0] * 3, [191] * 3
    inside = [[p[:, 100, x].tolist() for x in (100, 306, 512)] for p in pictures]
    assert inside == [[black, light, last], [black, empty, empty], [empty, light, empty]]
    with pytest.raises(ValueError, match="truth, prediction or both, got neither"):
        visual.comparison(None, None, "")


def test_comparison_shrinks_large_frames() -> None:
    frame = torch.rand(3, 270, 2560)
    margin, line = 2 * 14, 2 * 26  # letters are twice as large then
    shape = (3, 2 * line + 135 + margin, margin + 3 * (1280 + margin))
    assert visual.comparison(frame, frame, "").shape == shape
