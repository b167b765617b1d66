"""Frames cut to a size, clips cut into windows and into parts to train on, validate and test."""

import pytest
import torch
from torch.utils.data import DataLoader

from vidpred.data import EvaluationLoader, ResumableLoader, VideoWindows
from vidpred.data.crop import crop_and_resize
from vidpred.data.sources.splits import split_by_time


def clip(start: int, frames: int) -> torch.Tensor:
    """A clip of one-pixel frames that are numbered from `start` on."""
    return torch.arange(start, start + frames, dtype=torch.uint8).view(-1, 1, 1, 1)


def numbers(windows) -> list[list[int]]:
    return [window.flatten().tolist() for window in windows]


@pytest.mark.parametrize(
    ("stride", "expected"),
    [
        (1, [[0, 1, 2], [1, 2, 3], [2, 3, 4], [10, 11, 12], [20, 21, 22], [21, 22, 23]]),
        (2, [[0, 1, 2], [2, 3, 4], [10, 11, 12], [20, 21, 22]]),
        (3, [[0, 1, 2], [10, 11, 12], [20, 21, 22]]),
    ],
)
def test_windows_lie_within_one_clip_each(stride: int, expected: list[list[int]]):
    # The second clip is too short for any.
    windows = VideoWindows([clip(0, 5), clip(8, 2), clip(10, 3), clip(20, 4)], 3, stride)
    assert len(windows) == len(expected)
    assert numbers(windows) == expected
    for index in (-1, len(windows)):
        with pytest.raises(IndexError, match=f"window {index} of {len(windows)}"):
            windows[index]


def test_a_window_is_no_copy():
    frames = clip(0, 9)
    window = VideoWindows([frames], 4)[3]
    assert window.data_ptr() == frames[3].data_ptr()


def test_a_window_comes_with_the_label_of_its_clip():
    windows = VideoWindows([clip(0, 4), clip(8, 2), clip(10, 3)], 3, labels=[7, 8, 9])
    assert [label for _, label in windows] == [7, 7, 9]
    (frames, labels) = next(iter(ResumableLoader(windows, 3, shuffle=False)))
    assert frames[:, 0].flatten().tolist() == [0, 1, 10]
    assert labels.tolist() == [7, 7, 9]


def test_windows_out_of_range():
    with pytest.raises(ValueError, match="length must be at least 1 frame, got 0"):
        VideoWindows([clip(0, 3)], 0)
    with pytest.raises(ValueError, match="stride must be at least 1 frame, got -1"):
        VideoWindows([clip(0, 3)], 2, -1)
    assert len(VideoWindows([], 2)) == 0


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_share_the_frames(context: str):
    frames = clip(0, 8)
    windows = VideoWindows([frames], 3)
    loader = DataLoader(windows, 2, num_workers=1, multiprocessing_context=context)
    assert torch.cat([*loader]).flatten(1).tolist() == numbers(windows)
    # What is sent to a spawned worker is in shared memory, not copied into each one's own.
    assert frames.is_shared() == (context == "spawn")


def test_with_the_loaders():
    windows = VideoWindows([clip(0, 7), clip(100, 4)], 3)
    evaluated = torch.cat([*EvaluationLoader(windows, 4, num_workers=1)])
    assert evaluated.flatten(1).tolist() == numbers(windows)
    train = ResumableLoader(windows, 2, seed=3)
    again = ResumableLoader(windows, 2, seed=3)
    again.load_state_dict({"batches": 2})
    assert torch.equal([*train][2], next(iter(again)))


@pytest.mark.parametrize("frames", [0, 1, 3, 10, 99])
@pytest.mark.parametrize("fractions", [(0.1, 0.2), (0.5, 0.5), (0.0, 0.3), (0.0, 0.0)])
def test_parts_are_in_order_and_share_no_frame(frames: int, fractions: tuple[float, float]):
    whole = range(frames)
    parts = split_by_time(whole, *fractions)
    assert [number for part in parts for number in part] == [*whole]
    for part, fraction in zip(parts, (1 - sum(fractions), *fractions), strict=True):
        assert abs(len(part) - frames * fraction) <= 1


def test_a_cut_by_hand():
    # Six columns: the middle four remain. Halved, a pixel is the mean of those within two pixels of
    # its centre, by distance (1/2, 1/2, 3/2: weights 3, 3, 1; at the other end mirrored).
    row = torch.tensor([0.0, 8, 16, 24, 32, 40])
    expected = torch.tensor([3 * 8 + 3 * 16 + 24, 16 + 3 * 24 + 3 * 32]) / 7
    frame = row.expand(1, 3, 4, 6)
    torch.testing.assert_close(crop_and_resize(frame, (2, 2)), expected.expand(1, 3, 2, 2))
    tall = frame.mT.contiguous()
    torch.testing.assert_close(crop_and_resize(tall, (2, 2)), expected.expand(1, 3, 2, 2).mT)
    in_bytes = crop_and_resize(frame.byte(), (2, 2))
    assert torch.equal(in_bytes, expected.round().byte().expand(1, 3, 2, 2))


def test_a_frame_of_the_right_size_stays():
    frame = torch.randint(0, 256, (2, 3, 12, 20), dtype=torch.uint8)
    assert torch.equal(crop_and_resize(frame, (12, 20)), frame)
    assert torch.equal(crop_and_resize(frame, (12, 12)), frame[..., 4:16])
    assert torch.equal(crop_and_resize(frame, (3, 20)), frame[..., 4:7, :])
    assert crop_and_resize(frame, (40, 1)).shape == (2, 3, 40, 1)
