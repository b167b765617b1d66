"""Metrics against scikit-image, the lpips package and plain numpy, streamed and distributed."""

import copy
import hashlib
import pickle
import sys
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from processes import in_two_processes
from torch import Tensor, nn

from vidpred import metrics
from vidpred.metrics import LPIPS, MSE, PSNR, SSIM, FrameMetric, MSESum, perceptual


def clips(
    *shape: int, seed: int = 0, noise: float = 0.05, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """A textured target with large flat regions, and a noisy prediction of it."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(shape, generator=generator, dtype=dtype)
    coarse = torch.nn.functional.avg_pool2d(target.flatten(0, -4), 9, 1, 4).view(shape)
    target = (coarse > 0.5) * (0.6 + 0.4 * target)
    error = noise * torch.randn(shape, generator=generator, dtype=dtype)
    return (target + error).clamp(0, 1), target


def skimage_ssim(prediction: Tensor, target: Tensor, data_range: float) -> np.ndarray:
    from skimage.metrics import structural_similarity

    scores = [
        structural_similarity(x.numpy(), y.numpy(), data_range=data_range, channel_axis=0)
        for x, y in zip(prediction.flatten(0, 1), target.flatten(0, 1), strict=True)
    ]
    return np.array(scores).reshape(prediction.shape[:2])


NUMPY_DEFINITIONS = {
    MSESum: lambda p, y: ((np.clip(p, 0, 1) - y) ** 2).sum((2, 3, 4)).mean(0),
    MSE: lambda p, y: ((np.clip(p, 0, 1) - y) ** 2).mean((2, 3, 4)).mean(0),
    PSNR: lambda p, y: (10 * np.log10(1 / ((np.clip(p, 0, 1) - y) ** 2).mean((2, 3, 4)))).mean(0),
}


@pytest.mark.parametrize("metric", NUMPY_DEFINITIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_errors_follow_their_definitions(metric: type[FrameMetric], channels: int) -> None:
    _, target = clips(5, 4, channels, 12, 10)
    prediction = target + 0.3 * torch.randn(
        target.shape, generator=torch.Generator().manual_seed(1)
    )
    assert prediction.max() > 1.2  # so that clipping shows
    streamed = metric(horizon=4)
    streamed.update(prediction, target)
    expected = NUMPY_DEFINITIONS[metric](prediction.double().numpy(), target.double().numpy())
    np.testing.assert_allclose(streamed.compute(), expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(1, 64, 64), (3, 20, 33), (2, 7, 9)])
@pytest.mark.parametrize("data_range", [1, 2])
def test_ssim_equals_skimage(
    dtype: torch.dtype, size: tuple[int, int, int], data_range: float
) -> None:
    prediction, target = clips(2, 3, *size, dtype=dtype)
    expected = skimage_ssim(prediction.double(), target.double(), data_range)
    actual = metrics.ssim(prediction, target, data_range)
    assert actual.dtype == dtype
    tolerance = 1e-7 if dtype == torch.float32 else 1e-12
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(
        actual, skimage_ssim(prediction, target, data_range), rtol=0, atol=1e-6
    )
    streamed = SSIM(horizon=3, data_range=data_range)
    streamed.update(prediction, target)
    np.testing.assert_allclose(streamed.compute(), expected.mean(0), rtol=0, atol=2e-7)


def test_ssim_keeps_the_small_variance_of_bright_flat_regions() -> None:
    generator = torch.Generator().manual_seed(0)
    target = 0.98 + 0.01 * torch.rand(1, 1, 1, 32, 32, generator=generator)
    prediction = 0.98 + 0.01 * torch.rand(1, 1, 1, 32, 32, generator=generator)
    # A range this small makes the stabilising constants too small to hide cancellation.
    for data_range in (1, 0.01):
        expected = skimage_ssim(prediction.double(), target.double(), data_range)
        actual = metrics.ssim(prediction, target, data_range)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-7)


def test_paper_protocol_reads_higher() -> None:
    prediction, target = clips(2, 3, 1, 32, 32, noise=0.2)
    assert (metrics.ssim(prediction, target, 2) > metrics.ssim(prediction, target, 1)).all()


def test_functions_take_frames_with_any_leading_dimensions() -> None:
    prediction, target = clips(2, 3, 3, 16, 16)
    functions = (metrics.mse_sum, metrics.mse, metrics.psnr, lambda p, y: metrics.ssim(p, y, 1))
    for function in functions:
        scores = function(prediction, target)
        assert scores.shape == (2, 3)
        torch.testing.assert_close(scores[1, 2], function(prediction[1, 2], target[1, 2]))


def test_functions_have_gradients() -> None:
    prediction, target = clips(2, 1, 16, 16)
    for function in (metrics.mse_sum, metrics.mse, metrics.psnr):
        leaf = prediction.clone().requires_grad_()
        function(leaf, target).sum().backward()
        assert leaf.grad is not None
        assert leaf.grad.abs().sum() > 0


def test_psnr_of_identical_frames_is_capped() -> None:
    _, target = clips(2, 3, 1, 8, 8)
    prediction = target.clone()
    prediction[0] = (target[0] - 0.1).abs()  # every pixel 0.1 away: 20 dB
    prediction[0][target[0] < 0.05] = 0.1
    metric = PSNR(horizon=3)
    metric.update(prediction, target)
    np.testing.assert_allclose(metric.compute(), [(20 + 100) / 2] * 3, rtol=1e-5)


def test_nan_is_not_hidden() -> None:
    prediction, target = clips(2, 3, 1, 8, 8)
    prediction[1, 2, 0, 0, 0] = float("nan")
    for metric in (MSESum(3), MSE(3), PSNR(3), SSIM(3)):
        metric.update(prediction, target)
        assert metric.compute().isnan().tolist() == [False, False, True]


ALL = {
    "mse_sum": MSESum,
    "mse": MSE,
    "psnr": PSNR,
    "ssim": SSIM,
    "ssim_paper": lambda horizon: SSIM(horizon, data_range=2),
}


@pytest.mark.parametrize("name", ALL)
def test_uneven_batches_equal_one_batch(name: str) -> None:
    prediction, target = clips(7, 3, 1, 16, 16)
    whole, streamed = ALL[name](3), ALL[name](3)
    whole.update(prediction, target)
    for part in (slice(0, 4), slice(4, 5), slice(5, 7)):
        streamed.update(prediction[part], target[part])
    torch.testing.assert_close(streamed.compute(), whole.compute(), rtol=1e-6, atol=0)

    streamed.reset()
    streamed.update(prediction[:1], target[:1])
    whole.reset()
    first = whole(prediction[:1], target[:1])  # forward returns the value of the batch
    torch.testing.assert_close(streamed.compute(), first, rtol=0, atol=0)
    whole(prediction[1:], target[1:])
    fresh = ALL[name](3)
    fresh.update(prediction, target)
    torch.testing.assert_close(whole.compute(), fresh.compute(), rtol=1e-6, atol=0)


def test_horizon_of_one_keeps_its_dimension() -> None:
    prediction, target = clips(2, 1, 1, 8, 8)
    metric = MSE(horizon=1)
    metric.update(prediction, target)
    assert metric.compute().shape == (1,)
    for clone in (pickle.loads(pickle.dumps(metric)), copy.deepcopy(metric)):
        clone.update(prediction, target)
        torch.testing.assert_close(clone.compute(), metric.compute())


def test_long_streams_do_not_drift() -> None:
    class Constant(FrameMetric):
        def score(self, prediction: Tensor, target: Tensor) -> Tensor:
            return torch.full((len(prediction),), 0.1)

    metric = Constant(horizon=1)
    frames = torch.zeros(1, 1, 1, 1, 1)
    plain = torch.zeros(())
    for _ in range(4_000):
        metric.update(frames, frames)
        plain = plain + 0.1
    assert abs(plain.item() / 4_000 - 0.1) > 1e-6  # what the compensation is for
    assert metric.compute().item() == pytest.approx(0.1, rel=1e-7)


def test_autocast_and_reduced_precision_do_not_touch_scores(random_trunk: Path) -> None:
    prediction, target = clips(2, 2, 1, 40, 40)
    half = prediction.bfloat16()
    for make in (*ALL.values(), lambda horizon: LPIPS(horizon, weights=random_trunk)):
        outside, inside, cast = make(2), make(2), make(2)
        outside.update(half.float(), target)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside.update(half.float(), target)
            cast.update(half, target)
        torch.testing.assert_close(inside.compute(), outside.compute(), rtol=0, atol=0)
        torch.testing.assert_close(cast.compute(), outside.compute(), rtol=0, atol=0)


def test_metrics_hold_no_graph() -> None:
    prediction, target = clips(2, 2, 1, 16, 16)
    prediction.requires_grad_()
    for make in ALL.values():
        metric = make(2)
        metric.update(prediction, target)
        assert not metric(prediction, target).requires_grad
        assert not metric.compute().requires_grad


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (torch.zeros(2, 3, 1, 8, 8), torch.zeros(2, 3, 1, 8, 9), "must have one shape"),
        (torch.zeros(3, 1, 8, 8), torch.zeros(3, 1, 8, 8), r"expects frames \(B, T, C, H, W\)"),
        (torch.zeros(2, 4, 1, 8, 8), torch.zeros(2, 4, 1, 8, 8), "horizon=3, got 4"),
        (torch.zeros(0, 3, 1, 8, 8), torch.zeros(0, 3, 1, 8, 8), "expected frames"),
        (torch.zeros(2, 3, 1, 8, 8), torch.full((2, 3, 1, 8, 8), 255.0), r"lie in \[0, 1\]"),
        (torch.zeros(2, 3, 1, 8, 8), torch.full((2, 3, 1, 8, 8), -1.0), r"lie in \[0, 1\]"),
        (torch.zeros(2, 3, 1, 8, 8), torch.full((2, 3, 1, 8, 8), torch.nan), "got values from nan"),
        (
            torch.zeros(2, 3, 1, 8, 8, dtype=torch.uint8),
            torch.zeros(2, 3, 1, 8, 8),
            "prediction must be floating point",
        ),
        (torch.zeros(2, 3, 1, 6, 8), torch.zeros(2, 3, 1, 6, 8), "at least 7x7"),
    ],
)
def test_bad_frames_are_refused_in_one_line(
    prediction: Tensor, target: Tensor, message: str
) -> None:
    metric = SSIM(horizon=3)
    with pytest.raises(ValueError, match=message) as raised:
        metric.update(prediction, target)
    assert "\n" not in str(raised.value)
    assert metric.count == 0


def test_bad_arguments_are_refused() -> None:
    for horizon in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="horizon must be a positive number"):
            MSE(horizon)  # pyright: ignore[reportArgumentType]
    for data_range in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="data_range must be a positive number"):
            SSIM(3, data_range=data_range)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_no_frames_is_an_error_not_nan() -> None:
    with pytest.raises(ValueError, match="has seen no frames"):
        MSE(3).compute()


def _score_shard(folder: Path) -> None:
    assert "lpips" not in sys.modules, "importing vidpred.metrics must not import lpips"
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    prediction, target = clips(7, 3, 1, 16, 16)
    batches = [[slice(0, 3), slice(3, 5)], [slice(5, 7)]][rank]
    results = {}
    for name, make in ALL.items():
        metric = make(3)
        for batch in batches:
            metric.update(prediction[batch], target[batch])
        results[name] = metric.compute()
        metric.update(prediction[:1], target[:1])  # both ranks go on from their own sums
        results[f"{name} continued"] = metric.compute()
        metric.reset()
        if rank == 0:  # rank 1 sees nothing
            metric.update(prediction, target)
        results[f"{name} one-sided"] = metric.compute()
    torch.save(results, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_two_processes_equal_one(tmp_path: Path) -> None:
    in_two_processes(_score_shard, tmp_path)
    prediction, target = clips(7, 3, 1, 16, 16)
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, make in ALL.items():
            metric = make(3)
            metric.update(prediction, target)
            expected = metric.compute()
            torch.testing.assert_close(results[name], expected, rtol=1e-6, atol=0)
            torch.testing.assert_close(results[f"{name} one-sided"], expected, rtol=1e-6, atol=0)
            for _ in range(2):
                metric.update(prediction[:1], target[:1])
            torch.testing.assert_close(
                results[f"{name} continued"], metric.compute(), rtol=1e-6, atol=0
            )


@pytest.fixture(scope="module")
def random_trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random AlexNet weights, named as in the ImageNet file, less the unused classifier."""
    from torchvision.models import alexnet

    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = alexnet(weights=None).state_dict()
    path = tmp_path_factory.mktemp("trunk") / "alexnet.pth"
    torch.save({name: value for name, value in weights.items() if "features" in name}, path)
    return path


def hub_file(home: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(home))
    path = home / "hub" / "checkpoints" / name
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.filterwarnings("ignore:::torchvision")
@pytest.mark.parametrize(
    ("net", "name"), [("alex", "alexnet"), ("vgg", "vgg16"), ("squeeze", "squeezenet1_1")]
)
def test_lpips_equals_the_package(
    net: Literal["alex", "vgg", "squeeze"],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import lpips
    from torchvision import models

    # The package reads its trunk through torchvision, which takes a file that is already there
    # but wants it complete: the classifier's zeros are expanded, so they take no room.
    with torch.device("meta"):
        unfilled = getattr(models, name)(weights=None).state_dict()
    generator = torch.Generator().manual_seed(0)
    trunk = {
        key: torch.randn(x.shape, generator=generator) / x[0].numel() ** 0.5
        if "features" in key
        else torch.zeros(()).expand(x.shape)
        for key, x in unfilled.items()
    }
    path = hub_file(tmp_path, perceptual._TRUNKS[net].file, monkeypatch)
    torch.save(trunk, path)
    package = lpips.LPIPS(net=net, verbose=False)
    metric = LPIPS(horizon=2, net=net, weights=path)

    for channels in (1, 3):
        prediction, target = clips(3, 2, channels, 40, 48, noise=0.2)
        scaled = [
            frames.flatten(0, 1).expand(-1, 3, -1, -1) * 2 - 1 for frames in (prediction, target)
        ]
        with torch.no_grad():
            expected = package(*scaled).view(3, 2).mean(0)
        metric.update(prediction, target)
        torch.testing.assert_close(metric.compute(), expected, rtol=1e-5, atol=0)
        assert (expected > 1e-4).all()
        metric.reset()


@pytest.mark.filterwarnings("ignore:::torchvision")
def test_lpips_reads_the_hub_file_of_every_net(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import squeezenet1_1

    weights = squeezenet1_1(weights=None).state_dict()
    draft = tmp_path / "draft.pth"
    torch.save(weights, draft, _use_new_zipfile_serialization=False)  # as the oldest hub files
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()
    path = hub_file(tmp_path / "home", f"squeezenet1_1-{digest[:8]}.pth", monkeypatch)
    path.write_bytes(draft.read_bytes())
    trunk = perceptual._Trunk(path.name, 17)
    monkeypatch.setitem(perceptual._TRUNKS, "squeeze", trunk)
    by_name, by_path = LPIPS(2, net="squeeze"), LPIPS(2, net="squeeze", weights=str(draft))
    prediction, target = clips(2, 2, 1, 20, 20)
    for metric in (by_name, by_path):
        metric.update(prediction, target)
        found = metric._network[0].get_submodule("net").state_dict()
        assert torch.equal(found["slice1.0.weight"], weights["features.0.weight"])
        assert torch.equal(found["slice7.12.expand3x3.bias"], weights["features.12.expand3x3.bias"])
    assert torch.equal(by_name.compute(), by_path.compute())


@pytest.mark.parametrize(
    ("net", "name"),
    [
        ("alex", "alexnet-owt-7be5be79.pth"),
        ("vgg", "vgg16-397923af.pth"),
        ("squeeze", "squeezenet1_1-b8a52dc0.pth"),
    ],
)
def test_missing_or_damaged_trunk_file(
    net: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = hub_file(tmp_path, name, monkeypatch)
    with pytest.raises(FileNotFoundError) as missing:
        LPIPS(3, net=net)  # pyright: ignore[reportArgumentType]
    assert str(path) in str(missing.value)
    assert "\n" not in str(missing.value)
    torch.save({}, path)
    with pytest.raises(ValueError, match="is damaged: its SHA-256 starts with"):
        LPIPS(3, net=net)  # pyright: ignore[reportArgumentType]


def test_files_that_are_no_trunk(tmp_path: Path, random_trunk: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file nowhere\.pth"):
        LPIPS(3, weights="nowhere.pth")
    garbage = tmp_path / "garbage.pth"
    garbage.write_bytes(b"not weights")
    truncated = tmp_path / "truncated.pth"
    truncated.write_bytes(random_trunk.read_bytes()[:100_000])
    short = tmp_path / "short.pth"  # of which torch makes another error
    short.write_bytes(random_trunk.read_bytes()[:20_000])
    for path in (garbage, truncated, short):
        with pytest.raises(ValueError, match="is damaged or no checkpoint") as raised:
            LPIPS(3, weights=path)
        assert str(raised.value).startswith(str(path))
        assert "\n" not in str(raised.value)
    nan, weights = tmp_path / "nan.pth", torch.load(random_trunk)
    weights["features.3.bias"][5] = torch.nan
    torch.save(weights, nan)
    with pytest.raises(ValueError, match=r"nan\.pth is damaged: features\.3\.bias is not finite"):
        LPIPS(3, weights=nan)
    other = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, other)
    with pytest.raises(
        ValueError, match=r"expected features\.0\.weight with shape \(64, 3, 11, 11\)"
    ):
        LPIPS(3, weights=other)
    torch.save([1, 2], other)
    with pytest.raises(ValueError, match="does not hold weights of alex"):
        LPIPS(3, weights=other)
    with pytest.raises(ValueError, match="net must be one of alex, vgg, squeeze"):
        LPIPS(3, net="resnet")  # pyright: ignore[reportArgumentType]


def test_lpips_refuses_frames_its_trunk_cannot_take(random_trunk: Path) -> None:
    metric = LPIPS(horizon=1, weights=random_trunk)
    metric.update(torch.zeros(1, 1, 1, 31, 31), torch.zeros(1, 1, 1, 31, 31))
    for size in ((1, 30, 64), (2, 64, 64)):
        frames = torch.zeros(1, 1, *size)
        with pytest.raises(ValueError, match="grey or colour frames of at least 31x31"):
            metric.update(frames, frames)


def test_lpips_stays_frozen_and_out_of_its_owner(random_trunk: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    owner = nn.Module()
    owner.metric = LPIPS(horizon=1, weights=random_trunk)
    assert torch.equal(torch.rand(1), expected)  # building leaves the random state alone
    owner.train()
    owner.double()
    assert not list(owner.parameters())
    assert not owner.state_dict()
    network = owner.metric._network[0]
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    prediction, target = clips(2, 1, 1, 32, 32)
    for _ in range(2):  # dropout would make the two differ
        owner.metric.update(prediction, target)
    first = owner.metric.compute()
    owner.metric.update(prediction, target)
    torch.testing.assert_close(owner.metric.compute(), first, rtol=1e-6, atol=0)
