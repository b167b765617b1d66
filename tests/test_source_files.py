"""What data sets keep frames in other than videos: pictures, ``.seq`` files and raw 4:2:0."""

from __future__ import annotations

import itertools
import pickle
import struct

import av
import layouts
import numpy as np
import pytest
import torch
from layouts import numbers
from PIL import Image

from vidpred.data import sources
from vidpred.data.sources.caltech import seq_frames
from vidpred.data.sources.images import image_files, image_frames
from vidpred.data.sources.sjtu4k import yuv_frames

SETS = ["set05", "set06", "set10"]
PICTURES = [layouts.jpeg(number) for number in range(5)]


def decoded(clip):
    return list(pickle.loads(pickle.dumps(clip)).frames())


# Pictures


def test_pictures_come_in_the_order_of_their_numbers(tmp_path):
    for number in (10, 9, 1):
        layouts.write_image(tmp_path / f"{number}.png", number)
    (tmp_path / "._1.png").write_bytes(b"what macOS leaves behind")
    (tmp_path / "note.txt").touch()
    assert numbers(image_frames(image_files(tmp_path))) == [1, 9, 10]


def test_a_grey_picture_becomes_colour(tmp_path):
    Image.new("L", (32, 24), 77).save(tmp_path / "grey.png")
    (frame,) = image_frames([tmp_path / "grey.png"])
    assert torch.equal(frame, torch.full((3, 24, 32), 77, dtype=torch.uint8))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("kind", ["gray16", "rgb48"])
def test_a_picture_of_16_bits_is_as_bright_as_one_of_8(tmp_path, suffix, kind):
    values = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    if kind == "gray16":
        values[:] = values[..., :1]
    path = tmp_path / f"0{suffix}"
    with av.open(str(path), "w") as container:  # Pillow writes no colours of 16 bits
        form = f"{kind}{'be' if suffix == '.png' else 'le'}"
        stream = container.add_stream(suffix[1:], width=32, height=24)
        stream.pix_fmt = form
        deep = values.astype(np.uint16) * 257
        frame = av.VideoFrame.from_ndarray(deep[..., 0] if kind == "gray16" else deep, form)
        container.mux([*stream.encode(frame), *stream.encode()])
    (image,) = image_frames([path])
    assert torch.equal(image, torch.from_numpy(values).permute(2, 0, 1))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", ".webp"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (2, lambda image: image.flip(2)),
        (3, lambda image: image.flip(1, 2)),
        (4, lambda image: image.flip(1)),
        (5, lambda image: image.mT),
        (6, lambda image: image.rot90(-1, (1, 2))),
        (7, lambda image: image.flip(1, 2).mT),
        (8, lambda image: image.rot90(1, (1, 2))),
    ],
)
def test_pictures_stand_upright(tmp_path, suffix, orientation, upright):
    stored = torch.linspace(0, 250, 24 * 32).view(24, 32).byte()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored.numpy()).save(tmp_path / f"0{suffix}", exif=exif, quality=100)
    (image,) = image_frames([tmp_path / f"0{suffix}"], channels=1)
    turned = upright(stored[None])
    assert image.shape == turned.shape
    assert (image.float() - turned.float()).abs().max() < 8


def test_a_picture_that_tells_its_orientation_in_part_is_damaged(tmp_path):
    Image.new("L", (32, 24)).save(tmp_path / "0.png", exif=b"Exif\0\0II*\0")
    with pytest.raises(ValueError, match=r"0\.png is no whole picture"):
        list(image_frames([tmp_path / "0.png"]))


def test_a_picture_of_32_bits_is_refused(tmp_path):
    for number, kind in enumerate((np.int32, np.float32)):
        file = tmp_path / f"{number}.tiff"
        Image.fromarray(np.ones((24, 32), kind)).save(file)
        with pytest.raises(ValueError, match=f"^{file} has pixels of 32 bits, of no range that is"):
            list(image_frames([file]))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0, 0.2, 0.7])
def test_a_picture_that_is_cut_off_is_named(tmp_path, suffix, share):
    file = tmp_path / f"0{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(noise).save(file)
    layouts.cut(file, share)
    with pytest.raises(ValueError, match=f"^{file} is no whole picture: it is cut off or dam"):
        list(image_frames([file]))


def test_pictures_of_a_clip_have_one_size(tmp_path):
    layouts.write_image(tmp_path / "0.png", 0)
    Image.new("RGB", (40, 24)).save(tmp_path / "1.png")
    message = f"^{tmp_path}/1.png is 24x40 pixels, the first of its clip 24x32: expected one size$"
    with pytest.raises(ValueError, match=message):
        list(image_frames(image_files(tmp_path)))


def test_a_folder_without_pictures_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"^no picture in {tmp_path}: expected files .bmp"):
        image_files(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"^no {tmp_path}/a: expected a folder of pictur"):
        image_files(tmp_path / "a")


# Caltech Pedestrian


def test_caltech_takes_10_of_30_frames_a_second(tmp_path):
    source = sources.caltech(layouts.caltech(tmp_path, SETS), SETS)
    assert (source.length, source.size) == (20, (128, 160))
    assert [(clip.name, clip.split) for clip in source.clips] == [
        ("set05/V000", "train"),
        ("set05/V001", "train"),
        ("set06/V000", "test"),
        ("set06/V001", "test"),
        ("set10/V000", "test"),
        ("set10/V001", "test"),
    ]
    assert numbers(decoded(source.clips[2])) == [0, 3, 6, 9]
    assert numbers(decoded(source.clips[3])) == [1, 4, 7, 10]
    faster = sources.caltech(tmp_path, SETS, fps=15)
    assert numbers(decoded(faster.clips[2])) == [0, 2, 4, 6, 8]


def test_caltech_names_what_is_missing(tmp_path):
    layouts.caltech(tmp_path, SETS[:2], 1)
    with pytest.raises(
        FileNotFoundError, match=rf"^no {tmp_path}/set07: expected a folder with V0"
    ):
        sources.caltech(tmp_path)
    (tmp_path / "set07").mkdir()
    with pytest.raises(FileNotFoundError, match=rf"^no video in {tmp_path}/set07: expected V000"):
        sources.caltech(tmp_path)
    with pytest.raises(ValueError, match=r"^fps must divide 30, the frames .* got 4$"):
        sources.caltech(tmp_path, fps=4)
    (tmp_path / "set07").rename(tmp_path / "testing")
    (tmp_path / "testing" / "V000.seq").touch()
    with pytest.raises(ValueError, match=r"^no set 'testing': expected names such as set06$"):
        sources.caltech(tmp_path, ["testing"])


@pytest.mark.parametrize("gap", [bytes(8), b""])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_seq_files_with_and_without_a_gap(tmp_path, gap, count):
    file = tmp_path / "V000.seq"
    file.write_bytes(layouts.seq(PICTURES[:count], gap))
    assert numbers(seq_frames(file)) == list(range(count))


def test_the_last_time_stamp_of_a_seq_file_may_be_missing(tmp_path):
    file = tmp_path / "V000.seq"
    data = layouts.seq(PICTURES, b"")
    file.write_bytes(data[:-8])
    assert numbers(seq_frames(file)) == list(range(5))


@pytest.mark.parametrize("missing", [1, 200])
@pytest.mark.parametrize("every", [1, 3])
def test_a_seq_file_that_is_cut_off_says_where(tmp_path, missing, every):
    file = tmp_path / "V000.seq"
    file.write_bytes(layouts.seq(PICTURES, b"")[: -8 - missing])
    frames = []
    message = f"^{file} is cut off or damaged at frame 4$"
    with pytest.raises(ValueError, match=message):
        frames.extend(seq_frames(file, every))
    assert numbers(frames) == list(range(0, 4, every))
    file.write_bytes(layouts.seq(PICTURES[:4], count=5))
    with pytest.raises(ValueError, match=message):
        list(seq_frames(file, every))


@pytest.mark.parametrize("gap", [bytes(8), b""])
@pytest.mark.parametrize("every", [1, 3])
def test_a_seq_file_may_state_no_count_but_no_wrong_one(tmp_path, gap, every):
    file = tmp_path / "V000.seq"
    file.write_bytes(layouts.seq(PICTURES, gap, count=0))
    assert numbers(seq_frames(file, every)) == list(range(0, 5, every))
    file.write_bytes(layouts.seq(PICTURES, gap, count=0)[:-30])
    with pytest.raises(ValueError, match=f"^{file} is cut off or damaged at frame 4$"):
        list(seq_frames(file, every))
    for count in (1, 4):
        file.write_bytes(layouts.seq(PICTURES, gap, count=count))
        message = f"^{file} holds more frames than the {count} that its header states$"
        with pytest.raises(ValueError, match=message):
            list(seq_frames(file, every))
    file.write_bytes(layouts.seq(PICTURES, gap) + bytes(100))  # room that was left
    assert numbers(seq_frames(file, every)) == list(range(0, 5, every))


@pytest.mark.parametrize("size", [0, 4, 0xFFFFFFFF])
def test_a_seq_file_with_a_size_that_cannot_be_says_where(tmp_path, size):
    file = tmp_path / "V000.seq"
    data = bytearray(layouts.seq(PICTURES))
    place = data.index(PICTURES[2]) - 4
    data[place : place + 4] = struct.pack("<I", size)
    file.write_bytes(data)
    with pytest.raises(ValueError, match=rf"^{file} is cut off or damaged at frame 2$"):
        list(seq_frames(file))


def test_a_broken_picture_in_a_seq_file_is_named(tmp_path):
    file = tmp_path / "V000.seq"
    whole = PICTURES[2]
    for broken in (bytes(len(whole)), whole[: len(whole) // 2], whole[:-2]):
        file.write_bytes(layouts.seq([*PICTURES[:2], broken, *PICTURES[3:]]))
        frames = []
        message = f"^frame 2 of {file} is no whole picture: it is cut off or damaged$"
        with pytest.raises(ValueError, match=message):
            frames.extend(seq_frames(file))
        assert numbers(frames) == [0, 1]


def test_other_files_are_no_seq_files(tmp_path):
    file = tmp_path / "V000.seq"
    for data in (b"", bytes(2000), layouts.seq(PICTURES)[:1000]):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=rf"^{file} is no seq file: expected a header of Norp"):
            list(seq_frames(file))
    file.write_bytes(layouts.seq(PICTURES, form=100))
    with pytest.raises(ValueError, match=rf"^{file} holds pictures of format 100: expected JPEG"):
        list(seq_frames(file))
    data = bytearray(layouts.seq(PICTURES))
    data[548:556] = struct.pack("<2I", 640, 480)
    file.write_bytes(data)
    with pytest.raises(
        ValueError, match=rf"^frame 0 of {file} is 24x32 pixels: its header says 48"
    ):
        list(seq_frames(file))


# SJTU4K


def test_yuv_becomes_the_colours_that_ffmpeg_makes_of_it(tmp_path):
    """FFmpeg's reader of raw video, and the numbers of BT.601 with Y from 16 to 235."""
    file = tmp_path / "clip.yuv"
    colours = {
        (16, 128, 128): (0, 0, 0),
        (235, 128, 128): (255, 255, 255),
        (126, 128, 128): (128, 128, 128),
        (81, 90, 240): (255, 0, 0),
        (145, 54, 34): (0, 255, 0),
        (41, 240, 110): (0, 0, 255),
    }
    file.write_bytes(layouts.yuv(colours))
    frames = list(yuv_frames(file, (24, 32)))
    for frame, colour in zip(frames, colours.values(), strict=True):
        assert frame.shape == (3, 24, 32)
        assert (frame.int() - torch.tensor(colour).view(3, 1, 1)).abs().max() <= 2
    noise = np.random.default_rng(0).integers(0, 256, (3, 36 * 32), np.uint8)
    file.write_bytes(noise.tobytes())
    options = {"video_size": "32x24", "pixel_format": "yuv420p"}
    with av.open(str(file), format="rawvideo", options=options) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for ours, theirs in itertools.zip_longest(yuv_frames(file, (24, 32)), expected):
        assert torch.equal(ours, torch.from_numpy(theirs).permute(2, 0, 1))


def test_sjtu4k_tests_on_the_last_tenth_of_each_clip(tmp_path):
    greys = [(16 + 5 * number, 128, 128) for number in range(20)]
    (tmp_path / "Traffic_Flow.yuv").write_bytes(layouts.yuv(greys))
    layouts.write_video(tmp_path / "Bund_Nightscape.mp4", 20, 30)
    source = sources.sjtu4k(tmp_path, (24, 32))
    assert (source.length, source.size) == (8, (2160, 3840))
    assert [(clip.name, clip.split) for clip in source.clips] == [
        ("Bund_Nightscape/train", "train"),
        ("Bund_Nightscape/test", "test"),
        ("Traffic_Flow/train", "train"),
        ("Traffic_Flow/test", "test"),
    ]
    assert numbers(decoded(source.clips[0])) == list(range(18))
    assert numbers(decoded(source.clips[1])) == [18, 19]
    validated = sources.sjtu4k(tmp_path, (24, 32), val_fraction=0.25)
    names = [f"Bund_Nightscape/{split}" for split in ("train", "val", "test")]
    assert [clip.name for clip in validated.clips[:3]] == names
    assert numbers(decoded(validated.clips[1])) == [14, 15, 16, 17]
    whole = list(yuv_frames(tmp_path / "Traffic_Flow.yuv", (24, 32)))
    assert len({int(frame[0, 0, 0]) for frame in whole}) == 20
    for clip, expected in zip(source.clips[2:], (whole[:18], whole[18:]), strict=True):
        assert torch.equal(torch.stack(decoded(clip)), torch.stack(expected))


def test_sjtu4k_names_what_is_missing_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"^no clip in {tmp_path}: expected .yuv or .mp4"):
        sources.sjtu4k(tmp_path)
    with pytest.raises(ValueError, match=r"^yuv_size must be two even numbers .* got \(23, 32\)$"):
        sources.sjtu4k(tmp_path, (23, 32))
    file = tmp_path / "Traffic_Flow.yuv"
    for size in (0, 1151, 2303):
        file.write_bytes(bytes(size))
        message = rf"^{file} has {size:,} bytes, no whole number of frames of 1,152: expected 4:2:0"
        with pytest.raises(ValueError, match=message):
            sources.sjtu4k(tmp_path, (24, 32))
    file.write_bytes(bytes(1152))
    layouts.write_video(file.with_suffix(".mp4"), 5)
    with pytest.raises(ValueError, match=r"Flow.mp4 and .*Flow.yuv have one name: keep one of th"):
        sources.sjtu4k(tmp_path, (24, 32))
