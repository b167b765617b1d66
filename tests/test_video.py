from __future__ import annotations

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.stream import Disposition

from vidpred.data import Video


def picture(t, height=48, width=64, noise=0):
    """A soft ramp, brighter with time: no codec changes it by much. Noise makes files longer."""
    ramp = np.linspace(0, 60, width, dtype=np.float32)
    grey = ramp + 20 + 3 * t + noise * np.random.default_rng(t).random((height, width))
    return np.stack([grey, grey / 2, grey / 4], axis=-1).clip(0, 255).astype(np.uint8)


def encode(container, stream, frames, times=None):
    """Add frames to a container; ``times`` in ticks of the stream's time base."""
    for t, frame in enumerate(frames):
        image = av.VideoFrame.from_ndarray(frame, format="rgb24")
        image.pts = None if times is None else times[t]
        container.mux(stream.encode(image))
    container.mux(stream.encode())


def film(path, count=12, codec="libx264", rate=25, size=(48, 64), pix_fmt="yuv420p", noise=0):
    """A file of one video stream."""
    first = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=first) as container:
        height, width = size
        stream = container.add_stream(codec, rate=rate, width=width, height=height)
        stream.pix_fmt = pix_fmt
        encode(container, stream, [picture(t, height, width, noise) for t in range(count)])
    return path


FORMATS = {
    "x.mp4": {},
    "x.mkv": {},
    "x.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "x.webm": {"codec": "libvpx-vp9"},
    "x.ts": {},
    "x.gif": {"codec": "gif", "pix_fmt": "rgb8", "rate": 20},
}


@pytest.mark.parametrize("name", FORMATS)
def test_frames_come_in_order_with_their_times(tmp_path, name):
    video = Video(film(tmp_path / name, **FORMATS[name]))
    rate = FORMATS[name].get("rate", 25)
    assert (video.size, video.channels, video.fps, video.length) == ((48, 64), 3, rate, 12)
    assert video.count() == 12
    for _ in range(2):  # as often as wanted
        frames = list(video)
        assert [frame.time for frame in frames] == [Fraction(t, rate) for t in range(12)]
    for t, (image, _) in enumerate(frames):
        assert image.dtype == torch.uint8
        assert image.is_contiguous()
        coarse = 20 if name.endswith("gif") else 4  # eight levels of red and green, four of blue
        error = image.float() - torch.tensor(picture(t)).permute(2, 0, 1)
        assert error.mean(dim=(1, 2)).abs().max() < coarse


@pytest.mark.parametrize("size", [(47, 63), (1, 1), (2, 130)])
def test_odd_sizes(tmp_path, size):
    path = film(tmp_path / "odd.mkv", codec="ffv1", pix_fmt="bgr0", size=size)
    for t, (image, _) in enumerate(Video(path)):
        assert torch.equal(image, torch.tensor(picture(t, *size)).permute(2, 0, 1))


def test_grey_stays_grey_unless_colour_is_asked_for(tmp_path):
    path = film(tmp_path / "grey.mkv", codec="ffv1", pix_fmt="gray")
    (grey, _), (colour, _) = next(iter(Video(path))), next(iter(Video(path, channels=3)))
    assert grey.shape == (1, 48, 64)
    assert torch.equal(colour, grey.expand(3, -1, -1))
    colourful = film(tmp_path / "colour.mkv", codec="ffv1", pix_fmt="bgr0")
    assert Video(colourful).channels == 3
    assert Video(colourful, channels=1).channels == 1


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le"])
def test_white_is_white_in_grey_and_colour(tmp_path, pix_fmt):
    with av.open(str(tmp_path / "white.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=32, height=32)
        stream.pix_fmt = pix_fmt
        encode(container, stream, [np.full((32, 32, 3), 255, np.uint8)])
    for channels in (1, 3):
        image, _ = next(iter(Video(tmp_path / "white.mp4", channels=channels)))
        assert image.min() >= 254


def turned(path, rows):
    """A copy of an MP4 whose matrix turns and mirrors: where x and y go, for y downwards."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # version, flags and seven fields before the matrix
    matrix = b"".join(
        (value << (30 if column == 2 else 16)).to_bytes(4, "big", signed=True)
        for row in ((*rows[0], 0), (*rows[1], 0), (0, 0, 1))
        for column, value in enumerate(row)
    )
    data[place : place + 36] = matrix
    copy = path.with_stem("upright")
    copy.write_bytes(data)
    return copy


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (-90, -1)])
def test_rotated_videos_stand_upright(tmp_path, degrees, turns):
    """The matrix of a telephone's recording says by how much to turn the frames."""
    path = film(tmp_path / "lying.mp4")
    cosine, sine = {90: (0, -1), 180: (-1, 0), -90: (0, 1)}[degrees]
    turned(path, ((cosine, sine), (-sine, cosine)))
    upright = Video(tmp_path / "upright.mp4")
    assert upright.size == ((64, 48) if turns % 2 else (48, 64))
    for (image, _), (lying, _) in zip(upright, Video(path), strict=True):
        assert torch.equal(image, torch.rot90(lying, turns, (1, 2)))


@pytest.mark.parametrize(
    ("rows", "mirror"),
    [
        (((-1, 0), (0, 1)), lambda image: image.flip(2)),
        (((1, 0), (0, -1)), lambda image: image.flip(1)),
        (((0, 1), (1, 0)), lambda image: image.mT),
        (((0, -1), (-1, 0)), lambda image: image.flip(1, 2).mT),
    ],
)
def test_mirrored_videos_are_mirrored_back(tmp_path, rows, mirror):
    """As by the camera that looks at the one who holds it."""
    path = film(tmp_path / "mirrored.mp4", 2)
    for (image, _), (stored, _) in zip(Video(turned(path, rows)), Video(path), strict=True):
        assert torch.equal(image, mirror(stored))


def test_frames_of_varying_rate_keep_their_times(tmp_path):
    times = [0, 40, 50, 200, 240, 1000]
    with av.open(str(tmp_path / "varying.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=48)
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        encode(container, stream, [picture(5 * t) for t in range(6)], times)
    frames = list(Video(tmp_path / "varying.mkv"))
    assert [1000 * time for _, time in frames] == times
    assert Video(tmp_path / "varying.mkv").count() == 6  # and not those of its mean rate
    resampled = Video(tmp_path / "varying.mkv", fps=10)
    assert resampled.count() == len(list(resampled))
    # Shown at 0, 0.1, ..., 1 second: the last frame to appear until then.
    regular = list(Video(tmp_path / "varying.mkv", fps=10))[:11]
    assert [time for _, time in regular] == [Fraction(t, 10) for t in range(11)]
    for (image, _), t in zip(regular, [0, 2, 3, 4, 4, 4, 4, 4, 4, 4, 5], strict=True):
        assert torch.equal(image, frames[t].image)


@pytest.mark.parametrize("name", ["x.avi", "x.mkv", "x.mp4"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_frames_that_are_coded_out_of_order_keep_their_times(tmp_path, name, codec):
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=25, width=64, height=48)
        stream.options = {"bf": "2"} if codec == "mpeg4" else {"x264-params": "bframes=2:b-adapt=0"}
        encode(container, stream, [picture(t) for t in range(12)])
        assert stream.codec_context.has_b_frames
    assert [time for _, time in Video(tmp_path / name)] == [Fraction(t, 25) for t in range(12)]


@pytest.mark.parametrize(
    ("fps", "shown"),
    [(10, [0, 2, 5, 7, 10]), (50, [t // 2 for t in range(24)]), (25, list(range(12)))],
)
def test_resampling(tmp_path, fps, shown):
    path = film(tmp_path / "x.mp4")
    frames = [image for image, _ in Video(path)]
    video = Video(path, fps=fps)
    assert (video.fps, video.length, video.count()) == (fps, len(shown), len(shown))
    resampled = list(video)
    assert [time for _, time in resampled] == [Fraction(t, fps) for t in range(len(shown))]
    assert all(torch.equal(frames[t], x.image) for t, x in zip(shown, resampled, strict=True))


def test_frames_that_a_cut_hides_are_not_counted(tmp_path):
    """A cut at no key frame: what comes before it is kept, since the rest needs it."""
    film(tmp_path / "whole.mp4", 30)
    options = {"avoid_negative_ts": "disabled"}
    with (
        av.open(str(tmp_path / "whole.mp4")) as whole,
        av.open(str(tmp_path / "cut.mp4"), "w", options=options) as cut,
    ):
        stream = cut.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.pts is not None and packet.dts is not None and packet.time_base is not None:
                start = int(Fraction(20, 25) / packet.time_base)
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - start,
                    packet.dts - start,
                    stream,
                )
                cut.mux(packet)
    video, resampled = Video(tmp_path / "cut.mp4"), Video(tmp_path / "cut.mp4", fps=50)
    assert len(list(video)) == video.count() == video.length == 10
    assert len(list(resampled)) == resampled.count() == resampled.length == 20


@pytest.mark.parametrize("main", [0, 1])
def test_of_two_video_streams_the_one_marked_as_default_is_read(tmp_path, main):
    with av.open(str(tmp_path / "two.mp4"), "w") as container:
        streams = [
            container.add_stream("libx264", rate=25, width=width, height=32) for width in (32, 64)
        ]
        streams[main].disposition = Disposition.default.value
        for stream, count in zip(streams, (4, 8), strict=True):
            encode(container, stream, [picture(t, 32, stream.width) for t in range(count)])
    video = Video(tmp_path / "two.mp4")
    assert video.size == (32, (32, 64)[main])
    assert len(list(video)) == video.length == (4, 8)[main]


@pytest.mark.parametrize("name", sorted({*FORMATS} - {"x.ts"}))  # which states no length
def test_a_file_that_is_cut_off_says_after_which_frame(tmp_path, name):
    whole = film(tmp_path / name, 60, noise=40, **FORMATS[name]).read_bytes()
    cut = tmp_path / f"cut_{name}"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    frames = []
    with pytest.raises(ValueError, match="cut off or damaged after frame") as error:
        frames.extend(Video(cut))
    assert str(error.value) == f"{cut} is cut off or damaged after frame {len(frames)}"
    assert 10 < len(frames) < 45


def test_subtitles_may_outlast_the_picture(tmp_path):
    (tmp_path / "x.srt").write_text("1\n00:00:00,100 --> 00:00:03,000\nThe end\n\n")
    with (
        av.open(str(tmp_path / "x.srt")) as text,
        av.open(str(tmp_path / "x.mkv"), "w") as container,
    ):
        stream = container.add_stream("libx264", rate=25, width=64, height=48)
        subtitles = container.add_stream_from_template(text.streams.subtitles[0])
        (packet,) = (packet for packet in text.demux() if packet.size)
        packet.stream = subtitles
        container.mux(packet)
        encode(container, stream, [picture(t) for t in range(12)])
    assert len(list(Video(tmp_path / "x.mkv"))) == 12


def test_a_damaged_file_says_after_which_frame(tmp_path):
    path = film(tmp_path / "x.mp4", 60, noise=40)
    data = bytearray(path.read_bytes())
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x.mp4 is cut off or damaged after frame \d+$"):
        list(Video(path))


def test_a_change_of_size_is_refused(tmp_path):
    parts = [
        film(tmp_path / f"{width}.mjpeg", 3, "mjpeg", size=(32, width), pix_fmt="yuvj420p")
        for width in (32, 64)
    ]
    (tmp_path / "both.mjpeg").write_bytes(b"".join(part.read_bytes() for part in parts))
    message = r"frames of \(32, 32\) pixels up to frame 3, then of \(32, 64\): cut it there"
    with pytest.raises(ValueError, match=message):
        list(Video(tmp_path / "both.mjpeg"))


def test_what_is_no_video_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no video at .*missing.mp4: expected a file"):
        Video(tmp_path / "missing.mp4")
    with pytest.raises(FileNotFoundError, match="expected a file"):
        Video(tmp_path)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match=r"empty.mp4 is empty: expected a video"):
        Video(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("no video" * 100)
    with pytest.raises(ValueError, match=r"text.mp4 is no video, or is cut off: Invalid data"):
        Video(tmp_path / "text.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"sound.mp4 has no video stream, only audio"):
        Video(tmp_path / "sound.mp4")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 2}, r"channels must be 1 \(grey\) or 3 \(RGB\), got 2"),
        ({"fps": 0}, "fps must be above 0 frames a second, got 0"),
        ({"fps": float("nan")}, "fps must be above 0 frames a second, got nan"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        Video(film(tmp_path / "x.mp4", 1), **settings)


def test_memory_of_frames_that_nobody_holds_is_used_again(tmp_path):
    frames = iter(Video(film(tmp_path / "x.mp4", 30)))
    images = [image.data_ptr() for image, _ in itertools.islice(frames, 20)]
    assert len(set(images)) < 20  # memory is used again
    frames.close()
