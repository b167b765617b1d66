from __future__ import annotations

import os
from fractions import Fraction

import av
import pytest
import torch

from vidpred.data import Video, write_video

TIMES = [Fraction(t, 100) for t in (0, 4, 9, 30, 31)]


def ramp(t, channels=3, size=(47, 63)):
    """Smooth, so that no codec changes it by much."""
    height, width = size
    image = torch.linspace(0, 150, width).expand(channels, height, -1) + 20 * t
    return (image * torch.tensor([1.0, 0.7, 0.4])[:channels, None, None]).byte()


def film(path, channels=3):
    with write_video(path, fps=25) as write:
        for t, time in enumerate(TIMES):
            write(ramp(t, channels), time)
    return path


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["x.mp4", "x.GIF"])
def test_frames_and_times_come_back(tmp_path, name, channels):
    video = Video(film(tmp_path / name, channels))
    assert video.size == ((48, 64) if name == "x.mp4" else (47, 63))
    frames = list(video)
    assert [time for _, time in frames] == TIMES
    for t, (image, _) in enumerate(frames):
        error = image[:, :47, :63].float() - ramp(t, channels).float()
        assert error.abs().mean() < 3
        if name == "x.mp4":  # the edge is repeated
            assert (image[:, 47:].float() - image[:, 46:47].float()).abs().mean() < 3
    assert os.listdir(tmp_path) == [name]


def test_an_mp4_plays_everywhere(tmp_path):
    path = film(tmp_path / "x.mp4")
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.codec_context.colorspace == 5  # BT.601, by which FFmpeg converts
        assert TIMES[-1] < stream.duration * stream.time_base < TIMES[-1] + 0.1
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # begins before it is loaded


def test_pictures_are_exact(tmp_path):
    folder = film(tmp_path / "pictures")
    names = sorted(os.listdir(folder))
    assert names == [f"{number:06d}.png" for number in range(1, 6)]
    for t, name in enumerate(names):
        assert torch.equal(next(iter(Video(folder / name))).image, ramp(t))


def test_frames_that_come_too_close_for_a_gif_are_all_kept(tmp_path):
    with write_video(tmp_path / "x.gif", fps=1000) as write:
        for t in range(4):
            write(ramp(t), Fraction(t, 1000))
    assert [time for _, time in Video(tmp_path / "x.gif")] == [Fraction(t, 100) for t in range(4)]


@pytest.mark.parametrize("name", ["x.mp4", "x.gif"])
@pytest.mark.parametrize("fps", [29.97, 23.976])
def test_rates_that_no_float_states_exactly(tmp_path, name, fps):
    with write_video(tmp_path / name, fps) as write:
        for t in range(3):
            write(ramp(t), t / Fraction(fps))
    times = [float(time) for _, time in Video(tmp_path / name)]
    assert times == pytest.approx([t / fps for t in range(3)], abs=0.005)


@pytest.mark.parametrize("name", ["x.mp4", "x.gif", "pictures"])
@pytest.mark.parametrize("fps", [0, -5, float("nan"), float("inf")])
def test_rates_that_no_film_has_are_refused(tmp_path, name, fps):
    message = f"^fps must be above 0 frames a second, got {fps}$"
    with pytest.raises(ValueError, match=message), write_video(tmp_path / name, fps):
        pytest.fail("waits for frames")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["x.mp4", "x.gif", "pictures"])
def test_what_fails_leaves_nothing(tmp_path, name):
    def broken():
        with write_video(tmp_path / name, fps=25) as write:
            write(ramp(0), TIMES[0])
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        broken()
    with pytest.raises(ValueError, match="there are no frames"), write_video(tmp_path / name, 25):
        pass
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(3, 8, 8), r"a frame is bytes \(C, H, W\), .* got \(3, 8, 8\), torch.float32"),
        (torch.zeros(2, 8, 8).byte(), r"got \(2, 8, 8\)"),
        (torch.zeros(8, 8).byte(), r"got \(8, 8\)"),
        (ramp(0, size=(8, 8)), r"frames change from \(3, 47, 63\) to \(3, 8, 8\)"),
    ],
)
def test_frames_of_another_form_are_refused(tmp_path, image, message):
    with write_video(tmp_path / "x.gif", fps=25) as write:
        write(ramp(0), TIMES[0])
        with pytest.raises(ValueError, match=message):
            write(image, TIMES[1])


def test_output_of_another_kind_is_refused(tmp_path):
    def begin(path):
        with write_video(path, fps=25):
            pass

    with pytest.raises(ValueError, match=r"x.avi: expected .mp4, .gif or a folder \(no suffix\)"):
        begin(tmp_path / "x.avi")
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(FileExistsError, match="is there already: give a folder that is new"):
            begin(path)


@pytest.mark.parametrize("name", ["x.mp4", "x.gif", "x"])
def test_where_nothing_can_be_written_is_seen_before_the_first_frame(name):
    with pytest.raises(OSError, match=r"^cannot write to /proc"), write_video(f"/proc/{name}", 25):
        pytest.fail("waits for frames")
