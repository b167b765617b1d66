"""Moving MNIST follows the published protocol and is a pure function of seed and index."""

import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vidpred.data import FixedMovingMNIST, MovingMNIST
from vidpred.data.moving_mnist import render, trajectory
from vidpred.random import uniform


def plain_trajectory(
    start: tuple[float, float], angle: float, length: int
) -> list[tuple[float, float]]:
    """The published generator's loop, one point and one step at a time."""
    y, x = start
    v_y, v_x = math.sin(angle), math.cos(angle)
    positions = []
    for _ in range(length):
        y += 0.1 * v_y
        x += 0.1 * v_x
        if x <= 0:
            x, v_x = 0.0, -v_x
        if x >= 1:
            x, v_x = 1.0, -v_x
        if y <= 0:
            y, v_y = 0.0, -v_y
        if y >= 1:
            y, v_y = 1.0, -v_y
        positions.append((y, x))
    return positions


def plain_sequence(dataset: MovingMNIST, index: int) -> np.ndarray:
    """A sequence drawn frame by frame and digit by digit from the same random numbers."""
    height, width = dataset.canvas
    images = dataset.images.numpy()
    h, w = images.shape[1:]
    frames = np.zeros((dataset.length, height, width), np.uint8)
    for number in uniform(dataset.seed, dataset.stream, index, shape=(dataset.digits, 4)).tolist():
        image = images[int(number[0] * len(images))]
        path = plain_trajectory((number[1], number[2]), number[3] * 2 * math.pi, dataset.length)
        for frame, (y, x) in zip(frames, path, strict=True):
            top, left = int((height - h) * y), int((width - w) * x)
            part = frame[top : top + h, left : left + w]
            np.maximum(part, image, out=part)
    return frames


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (50, 28, 28), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("length", "digits", "canvas"),
    [
        (20, 2, 64),
        (1, 1, 64),
        (7, 3, (40, 64)),
        (7, 1, (64, 33)),
        (5, 2, 28),
        (4, 2, (28, 50)),
        (120, 2, 64),
    ],
)
def test_equals_the_published_generator(images: torch.Tensor, length: int, digits: int, canvas):
    dataset = MovingMNIST(images, length, digits, canvas, seed=5, stream=2)
    indices = [0, 1, 17, 9_999]
    drawn = dataset.__getitems__(indices)
    size = (canvas, canvas) if isinstance(canvas, int) else canvas
    assert drawn.shape == (4, length, 1, *size)
    for frames, index in zip(drawn, indices, strict=True):
        assert np.array_equal(frames[:, 0].numpy(), plain_sequence(dataset, index))


def test_values(images: torch.Tensor):
    dataset = MovingMNIST(images)
    item = dataset[3]
    assert item.shape == (20, 1, 64, 64)
    assert item.dtype == torch.uint8
    assert (item.min(), item.max()) == (0, 255)


def test_an_item_is_the_same_alone_in_a_batch_and_in_another_order(images: torch.Tensor):
    dataset = MovingMNIST(images, length=9)
    batch = dataset.__getitems__(range(30))
    assert batch.is_contiguous()
    for index in (0, 13, 29):
        assert torch.equal(dataset[index], batch[index])
    assert torch.equal(dataset.__getitems__([13, 2, 13]), batch[[13, 2, 13]])
    assert torch.equal(MovingMNIST(images, length=9)[13], batch[13])


def test_sequences_planned_ahead_are_those_asked_for_alone(images: torch.Tensor):
    dataset = MovingMNIST(images, length=3, sequences=1000)
    batches = [range(0, 8), range(8, 16), range(250, 270), range(4, 12), range(0, 700)]
    for batch in [*batches, range(995, 1000), range(990, 1000, 2)]:
        alone = MovingMNIST(images, length=3, sequences=1000)
        expected = torch.stack([alone[index] for index in batch])
        assert torch.equal(dataset.__getitems__(batch), expected)


def test_a_longer_sequence_goes_on_where_a_shorter_one_stops(images: torch.Tensor):
    short, long = MovingMNIST(images, length=6), MovingMNIST(images, length=15)
    assert torch.equal(long[4][:6], short[4])


def test_seed_stream_and_index_each_give_other_sequences(images: torch.Tensor):
    variants = [
        MovingMNIST(images, seed=seed, stream=stream)[index]
        for seed in (0, 1, -1)
        for stream in (0, 1)
        for index in (0, 1)
    ]
    assert len({variant.numpy().tobytes() for variant in variants}) == len(variants)


def test_an_endless_stream(images: torch.Tensor):
    dataset = MovingMNIST(images, sequences=sys.maxsize)
    assert len(dataset) == sys.maxsize
    last, before = dataset.__getitems__([sys.maxsize - 1, sys.maxsize - 2])
    assert not torch.equal(last, before)
    assert torch.equal(dataset[sys.maxsize - 1], last)


def test_the_result_belongs_to_the_caller(images: torch.Tensor):
    dataset = MovingMNIST(images)
    first = dataset[0]
    kept = first.clone()
    dataset[1]
    first.zero_()
    assert torch.equal(dataset[0], kept)


def test_start_and_angle_are_uniform_and_digits_equally_likely(images: torch.Tensor):
    marked = torch.arange(50, dtype=torch.uint8)[:, None, None].expand(50, 1, 1) + 1
    dataset = MovingMNIST(marked, length=1, digits=1, canvas=51, sequences=20_000)
    frames = dataset.__getitems__(range(20_000))[:, 0, 0]
    counts = torch.bincount(frames.flatten(1).amax(1).long() - 1, minlength=50).double()
    assert ((counts - 400).square() / 400).sum() < 100  # 49 degrees of freedom: 5 deviations
    where = (frames > 0).flatten(1).float().argmax(1)
    for coordinate in (where // 51, where % 51):
        # One step from a uniform start, stopping at the walls: the middle stays uniform.
        inner = torch.bincount(coordinate[(coordinate >= 5) & (coordinate < 45)], minlength=45)[5:]
        expected = 20_000 / 50
        assert ((inner - expected).square() / expected).sum() < 40 + 5 * math.sqrt(80)


def test_trajectory_of_a_known_case():
    path = trajectory(np.array([[0.5, 0.75], [0.25, 0.55]]), np.array([0.0, math.pi]), 13)
    assert path.shape == (13, 2, 2)
    right = [0.85, 0.95, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    left = [0.45, 0.35, 0.25, 0.15, 0.05, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert path[:, 0, 1].tolist() == pytest.approx(right)
    assert path[:, 1, 1].tolist() == pytest.approx(left)
    assert path[:, :, 0] == pytest.approx(np.array([[0.5, 0.25]] * 13))


def test_trajectories_equal_the_loop_over_steps():
    start = uniform(1, torch.arange(300), shape=(2,)).double().numpy()
    angle = uniform(2, torch.arange(300)).double().numpy() * 2 * math.pi
    path = trajectory(start, angle, 200)
    plain = [
        plain_trajectory((point[0], point[1]), direction, 200)
        for point, direction in zip(start.tolist(), angle.tolist(), strict=True)
    ]
    np.testing.assert_allclose(np.moveaxis(path, 0, 1), plain, rtol=0, atol=1e-12)
    assert path.min() == 0
    assert path.max() == 1


def test_the_brighter_pixel_shows():
    pair = np.array([[[[10, 200]], [[50, 60]]]], np.uint8)  # (1, 2, 1, 2)
    left = np.array([[[0, 1], [1, 0]]])
    frames = render(pair, left, (1, 3))
    assert frames.reshape(1, 6).tolist() == [[10, 200, 60, 50, 60, 200]]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"length": 0}, "length must be at least 1, got 0"),
        ({"digits": 0}, "digits must be at least 1, got 0"),
        ({"sequences": -1}, "sequences must be at least 1, got -1"),
        ({"canvas": 27}, "canvas 27x27 is smaller than a digit of 28x28"),
        ({"canvas": (64, 20)}, "canvas 64x20 is smaller"),
        ({"canvas": (64, 64, 1)}, r"canvas is one number or \(height, width\)"),
        ({"images": torch.zeros(0, 28, 28, dtype=torch.uint8)}, r"M >= 1, got \(0, 28, 28\)"),
        ({"images": torch.zeros(28, 28, dtype=torch.uint8)}, r"got \(28, 28\)"),
    ],
)
def test_bad_arguments(images: torch.Tensor, arguments: dict, match: str):
    with pytest.raises(ValueError, match=match) as caught:
        MovingMNIST(**{"images": images, **arguments})
    assert "\n" not in str(caught.value)


def test_images_are_bytes(images: torch.Tensor):
    with pytest.raises(TypeError, match=r"images are uint8 .* got torch\.float32"):
        MovingMNIST(images.float())


@pytest.mark.parametrize("index", [10, -1, 2**70])
def test_index_out_of_range(images: torch.Tensor, index: int):
    with pytest.raises(IndexError, match=f"sequence {index} of 10"):
        MovingMNIST(images, sequences=10)[index]


def save(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, np.ndarray]:
    frames = np.random.default_rng(0).integers(0, 256, (20, 5, 64, 64), dtype=np.uint8)
    return save(tmp_path / "mnist_test_seq.npy", frames), frames


def test_the_fixed_test_set(stored: tuple[Path, np.ndarray]):
    path, frames = stored
    dataset = FixedMovingMNIST(path)
    assert len(dataset) == 5
    expected = torch.from_numpy(frames).transpose(0, 1)[:, :, None]
    for index in range(5):
        assert torch.equal(dataset[index], expected[index])
    batch = dataset.__getitems__(range(1, 4))
    assert batch.shape == (3, 20, 1, 64, 64)
    assert torch.equal(batch, expected[1:4])
    with pytest.raises(IndexError):
        dataset[5]


def test_the_fixed_test_set_is_sent_to_workers_by_name(stored: tuple[Path, np.ndarray]):
    dataset = FixedMovingMNIST(stored[0])
    sent = pickle.dumps(dataset)
    assert len(sent) < 1000
    assert torch.equal(pickle.loads(sent)[2], dataset[2])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((5, 20, 64, 64), np.uint8),
        np.zeros((20, 5, 64, 64), np.float32),
        np.zeros((20, 5, 64, 32), np.uint8),
        np.zeros((20, 0, 64, 64), np.uint8),
        np.zeros((20, 64, 64), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_another_array_is_no_fixed_test_set(tmp_path: Path, array: np.ndarray):
    path = save(tmp_path / "wrong.npy", array)
    with pytest.raises(ValueError, match="expected uint8") as caught:
        FixedMovingMNIST(path)
    assert f"{array.dtype} {array.shape}" in str(caught.value)


def test_damaged_fixed_test_set(stored: tuple[Path, np.ndarray], tmp_path: Path):
    path, _ = stored
    content = path.read_bytes()
    for damaged in (content[:-100], content[:60], b"", b"no array"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"is damaged or no \.npy file") as caught:
            FixedMovingMNIST(path)
        assert "\n" not in str(caught.value)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"is damaged or no \.npy file"):
        FixedMovingMNIST(path)
    with pytest.raises(FileNotFoundError, match="expected the fixed test set"):
        FixedMovingMNIST(tmp_path / "none.npy")
