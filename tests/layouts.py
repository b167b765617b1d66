"""Data sets in miniature, laid out as they are downloaded.

Every picture tells its number by how red it is; no codec changes that by as much as half a step.
"""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import av
import numpy as np
from PIL import Image

STEP = 5


def picture(number, height=24, width=32):
    """RGB ``(height, width, 3)``; red tells the number, up to 40, and green is half of it."""
    red = 40 + STEP * number
    return np.tile(np.array([red, red // 2, 10], np.uint8), (height, width, 1))


def numbers(frames):
    """Of each frame, which picture it is."""
    means = [frame.float().mean((1, 2)).tolist() for frame in frames]
    assert all(abs(green - red / 2) < 4 and abs(blue - 10) < 4 for red, green, blue in means)
    return [round((red - 40) / STEP) for red, *_ in means]


def write_image(path, number, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(number)).save(path, **settings)


def write_video(path, count, rate=25, first=0):
    """Frames that tell their numbers, in a codec that suits the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec, options = {
        ".mp4": ("libx264", {"qp": "1"}),
        ".webm": ("libvpx-vp9", {"lossless": "1"}),
        ".avi": ("mpeg4", {"b": "4000000"}),
    }[path.suffix]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, width=32, height=24, options=options)
        stream.pix_fmt = "yuv420p"
        for number in range(first, first + count):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def kitti(folder, drives, count=3):
    """The folders of ``DATE_drive_NUMBER_sync.zip``, unpacked together."""
    for drive in drives:
        for camera in range(4):
            for number in range(count):
                data = folder / drive[:10] / drive / f"image_0{camera}" / "data"
                write_image(data / f"{number:010}.png", number + 4 * camera)
        (folder / drive[:10] / drive / "image_03" / "timestamps.txt").touch()
    return folder


def jpeg(number):
    file = io.BytesIO()
    Image.fromarray(picture(number)).save(file, "jpeg", quality=95)
    return file.getvalue()


def seq(pictures, gap=bytes(8), form=201, count=None):
    """The bytes of a ``.seq`` file of pictures; ``gap`` follows each time stamp."""
    header = struct.pack("<I", 0xFEED) + "Norpix seq\0\0".encode("utf-16-le")
    header += struct.pack("<iI", 3, 1024) + "No Description".encode("utf-16-le").ljust(512, b"\0")
    count = len(pictures) if count is None else count
    fields = (32, 24, 24, 8, 32 * 24 * 3, form, count, 0, 2560)
    data = (header + struct.pack("<9Id", *fields, 29.97)).ljust(1024, b"\0")
    for number, bytes_ in enumerate(pictures):
        stamp = struct.pack("<IHH", 1_200_000_000 + number // 30, 33 * (number % 30), 0)
        data += struct.pack("<I", len(bytes_) + 4) + bytes_ + stamp + gap
    return data


def caltech(folder, sets, count=10):
    """Two videos in each set: ``V000.seq`` has a gap after its frames and ``V001.seq`` none."""
    for name in sets:
        (folder / name).mkdir(parents=True)
        for number, gap in enumerate((bytes(8), b"")):
            data = seq([jpeg(index + number) for index in range(count)], gap)
            (folder / name / f"V{number:03}.seq").write_bytes(data)
    return folder


def ucf_sports(folder):
    """A clip or two of every action: most as video, some as pictures, some as both."""
    root = folder / "ucf action"
    for name in ("Diving-Side", "Golf-Swing-Front", "Lifting", "Riding-Horse", "Swing-Bench"):
        write_video(root / name / "001" / "2538-5_70133.avi", 3, 10)
        write_image(root / name / "001" / "gt" / "2538-5_70133001.jpg", 30)
    for name in ("Golf-Swing-Back", "Kicking-Front", "SkateBoarding-Front", "Swing-SideAngle"):
        for number in range(12):  # whose names have no leading zeros: 10.jpg is not the second
            write_image(root / name / "001" / f"{number}.jpg", number, quality=95)
    for name in ("Run-Side", "Walk-Front"):
        for number in range(3):
            write_image(root / name / "002" / "jpeg" / f"{number:06}.jpg", number, quality=95)
    return folder


def ucf101(folder):
    """Two classes of five originals with two clips each."""
    lists = {"classInd.txt": "1 ApplyEyeMakeup\r\n2 HandstandPushups\r\n"}
    train, test = [], []
    for label, (name, file) in enumerate(
        [("ApplyEyeMakeup", "ApplyEyeMakeup"), ("HandstandPushups", "HandStandPushups")], 1
    ):
        for group in range(1, 6):
            for clip in range(1, 3):
                path = f"{name}/v_{file}_g{group:02}_c{clip:02}.avi"
                write_video(folder / "UCF-101" / path, 2, 25, group)
                train += [f"{path} {label}"] if group > 2 else []
                test += [] if group > 2 else [path]
    for fold in range(1, 4):  # each official fold tests on others
        lists[f"trainlist{fold:02}.txt"] = "\r\n".join(train if fold < 3 else train[2:]) + "\r\n"
        lists[f"testlist{fold:02}.txt"] = "\n".join(test) + "\n"
    (folder / "ucfTrainTestlist").mkdir()
    for name, text in lists.items():
        (folder / "ucfTrainTestlist" / name).write_bytes(text.encode())
    return folder


def human36m(folder, subjects=("S1", "S5", "S6", "S7", "S8", "S9", "S11")):
    for subject in subjects:
        for name in (
            "_ALL 1.54138969",
            "Directions 1.54138969",
            "Walking.54138969",
            "Walking.60457274",
        ):
            write_video(folder / subject / "Videos" / f"{name}.mp4", 11, 50)
    return folder


def yuv(frames):
    """Bytes of frames of 4:2:0: for each, numbers for Y, U and V, on 24x32 pixels."""
    return b"".join(
        bytes([y] * (24 * 32)) + bytes([u] * (12 * 16)) + bytes([v] * (12 * 16))
        for y, u, v in frames
    )


def something_something(folder, names=("20bn-something-something-v2", "labels")):
    videos, lists = names
    classes = ["Holding something next to something", "Pushing something so that it falls"]
    templates = [
        "Holding [something] next to [something]",
        "Pushing [something] so that it falls",
    ]
    splits = {"train": [(78687, 0, 40), (42326, 1, 10)], "validation": [(74225, 1, 20)]}
    (folder / lists).mkdir(parents=True, exist_ok=True)
    for split, entries in splits.items():
        listed = []
        for name, label, count in entries:
            write_video(folder / videos / f"{name}.webm", count, 12)
            template = templates[label]
            things = ["a cup", "a box"][: template.count("[")]
            text = template.lower().replace("[something]", things[0])
            listed.append(
                {"id": str(name), "label": text, "template": template, "placeholders": things}
            )
        (folder / lists / f"{split}.json").write_text(json.dumps(listed))
    numbered = {name: str(number) for number, name in reversed(list(enumerate(classes)))}
    (folder / lists / "labels.json").write_text(json.dumps(numbered))
    (folder / lists / "test.json").write_text(json.dumps([{"id": "1420"}]))
    return folder


def cut(path, share=0.6):
    """Leave only the first part of a file."""
    data = Path(path).read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
