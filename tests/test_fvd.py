"""FVD against scipy and closed forms, with a small random network of I3D's interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch
from processes import in_two_processes
from torch import Tensor, nn

from vidpred.metrics import FVD, frechet_distance

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
FEATURES = 6


class TinyI3D(nn.Module):
    """The interface of i3d_torchscript.pt, and its pooling of time down to pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 8, (3, 16, 16), stride=(2, 16, 16), padding=(1, 0, 0))
        self.pool = nn.MaxPool3d((3, 1, 1), (2, 1, 1), (1, 0, 0))
        self.head = nn.Conv3d(8, 6, 1)

    def forward(
        self,
        x: Tensor,
        rescale: bool = False,
        resize: bool = False,
        return_features: bool = False,
    ) -> Tensor:
        if rescale:
            x = x / 255 * 2 - 1
        if resize:
            size = [x.shape[2], 224, 224]
            x = nn.functional.interpolate(x, size=size, mode="trilinear", align_corners=False)
        x = self.pool(self.pool(torch.tanh(self.stem(x))))
        x = nn.functional.avg_pool3d(x, [2, 14, 14], [1, 1, 1])
        x = self.head(x).flatten(2).mean(2)
        return x if return_features else x.softmax(1)


@pytest.fixture(scope="module")
def network() -> TinyI3D:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyI3D().eval()


@pytest.fixture(scope="module")
def i3d(network: TinyI3D, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("i3d") / "i3d.pt"
    torch.jit.script(network).save(str(path))
    return path


def clips(count: int, channels: int = 3, frames: int = 9) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    target = torch.rand(count, frames, channels, 24, 20, generator=generator)
    target = target * torch.rand(count, 1, channels, 1, 1, generator=generator)
    return target * 0.8 + 0.4 * torch.rand(target.shape, generator=generator), target


def expected_distance(network: TinyI3D, prediction: Tensor, target: Tensor) -> float:
    """The definition with numpy and scipy, of all sequences at once."""
    moments = []
    for frames in (prediction.clamp(0, 1), target):
        videos = 255 * frames.expand(-1, -1, 3, -1, -1).transpose(1, 2)
        with torch.no_grad():
            features = network(videos, rescale=True, resize=True, return_features=True)
        features = features.double().numpy()
        moments.append((features.mean(0), np.cov(features, rowvar=False)))
    (mean, covariance), (other_mean, other_covariance) = moments
    root = scipy.linalg.sqrtm(covariance @ other_covariance)
    trace = np.trace(covariance + other_covariance - 2 * np.real(root))
    return float(((mean - other_mean) ** 2).sum() + trace)


def moments(rank: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = np.random.default_rng(seed)
    factor = generator.normal(size=(size, rank))
    return torch.tensor(generator.normal(size=size)), torch.tensor(factor @ factor.T)


def test_distance_equals_scipy() -> None:
    mean, covariance = moments(40, 20, seed=0)
    other_mean, other_covariance = moments(40, 20, seed=1)
    root = scipy.linalg.sqrtm((covariance @ other_covariance).numpy())
    expected = (mean - other_mean).square().sum() + np.trace(
        covariance.numpy() + other_covariance.numpy() - 2 * np.real(root)
    )
    actual = frechet_distance(mean, covariance, other_mean, other_covariance)
    assert actual.item() == pytest.approx(expected.item(), rel=1e-12)


def test_distance_of_diagonal_normals_is_the_closed_form() -> None:
    scales = torch.rand(2, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean, other_mean = moments(30, 30, seed=0)[0], moments(30, 30, seed=1)[0]
    actual = frechet_distance(
        mean, scales[0].square().diag(), other_mean, scales[1].square().diag()
    )
    expected = (mean - other_mean).square().sum() + (scales[0] - scales[1]).square().sum()
    assert actual.item() == pytest.approx(expected.item(), rel=1e-12)


def test_distance_of_singular_covariances() -> None:
    """Of rank one the root is known: tr (a a' b b')^1/2 = |a' b|."""
    a, b = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros(50, dtype=torch.float64)
    actual = frechet_distance(zero, a.outer(a), zero, b.outer(b))
    assert actual.item() == pytest.approx((a @ a + b @ b - 2 * (a @ b).abs()).item(), rel=1e-7)
    mean, covariance = moments(3, 50, seed=2)
    same = frechet_distance(mean, covariance, mean, covariance)
    assert 0 <= same.item() < 1e-6 * covariance.trace().item()


@pytest.mark.parametrize("channels", [1, 3])
def test_streamed_in_batches_equals_all_at_once(i3d: Path, network: TinyI3D, channels: int) -> None:
    prediction, target = clips(11, channels)
    assert prediction.max() > 1.05  # so that clipping shows
    metric = FVD(horizon=9, i3d=i3d)
    for _ in range(2):
        for batch in (slice(0, 4), slice(4, 5), slice(5, 11)):
            metric.update(prediction[batch], target[batch])
        expected = expected_distance(network, prediction, target)
        assert metric.compute().dtype == torch.float64
        # The features are float32.
        assert metric.compute().item() == pytest.approx(expected, rel=1e-5)
        metric.reset()
    metric.update(target, target)
    assert metric.compute().item() < 1e-6 * expected


def test_sums_keep_small_variances(i3d: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features far from zero: a float32 sum of squares would lose their covariance."""
    metric = FVD(horizon=9, i3d=i3d)
    offset = 1000.0
    monkeypatch.setattr(
        metric, "_features", lambda clips: offset + clips.double().mean((2, 3, 4))[:, :FEATURES]
    )
    prediction, target = clips(40)
    for batch in range(0, 40, 5):
        metric.update(prediction[batch : batch + 5], target[batch : batch + 5])
    shifted = metric.compute()
    offset = 0.0
    metric.reset()
    metric.update(prediction, target)
    assert shifted.item() == pytest.approx(metric.compute().item(), rel=1e-6)


def test_autocast_changes_nothing(i3d: Path) -> None:
    metrics = FVD(horizon=9, i3d=i3d), FVD(horizon=9, i3d=i3d)
    prediction, target = clips(3)
    metrics[0].update(prediction, target)
    with torch.autocast("cpu", torch.bfloat16):
        metrics[1].update(prediction, target)
    assert torch.equal(metrics[0].compute(), metrics[1].compute())


def _score_shard(folder: Path, i3d: Path) -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    prediction, target = clips(7)
    metric = FVD(horizon=9, i3d=i3d)
    share = [slice(0, 5), slice(5, 7)][rank]
    metric.update(prediction[share], target[share])
    both = metric.compute()
    metric.reset()
    if rank == 1:  # rank 0 sees nothing
        metric.update(prediction, target)
    torch.save([both, metric.compute()], folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(i3d: Path, tmp_path: Path) -> None:
    in_two_processes(_score_shard, tmp_path, i3d)
    metric = FVD(horizon=9, i3d=i3d)
    metric.update(*clips(7))
    for rank in range(2):
        for value in torch.load(tmp_path / f"{rank}.pt", weights_only=True):
            torch.testing.assert_close(value, metric.compute(), rtol=1e-6, atol=0)


def test_stays_frozen_and_out_of_its_owner(i3d: Path) -> None:
    owner = nn.Module()
    owner.metric = FVD(horizon=9, i3d=i3d)
    owner.train()
    assert not list(owner.parameters())
    assert not owner.state_dict()
    prediction, target = clips(3)
    owner.metric.update(prediction.requires_grad_(), target)
    assert not owner.metric.compute().requires_grad


def test_needs_two_sequences(i3d: Path) -> None:
    metric = FVD(horizon=9, i3d=i3d)
    metric.update(*clips(1))
    with pytest.raises(ValueError, match="expected at least 2 sequences, got 1"):
        metric.compute()


def test_refuses_what_is_no_such_network(i3d: Path, tmp_path: Path) -> None:
    class Other(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    class Maps(nn.Module):
        def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
            return x[:, :, 0]

    weights, other, maps = (tmp_path / f"{name}.pt" for name in ("weights", "other", "maps"))
    torch.save({"stem.weight": torch.zeros(3)}, weights)
    torch.jit.script(Other()).save(str(other))
    torch.jit.script(Maps()).save(str(maps))
    garbage, cut = tmp_path / "garbage.pt", tmp_path / "cut.pt"
    garbage.write_bytes(b"not a network")
    cut.write_bytes(i3d.read_bytes()[:2000])
    errors = {}
    for path in (tmp_path / "none.pt", weights, garbage, cut, other, maps):
        with pytest.raises((FileNotFoundError, ValueError)) as raised:
            FVD(horizon=9, i3d=path)
        errors[path.stem] = message = str(raised.value)
        assert str(path) in message
        assert "\n" not in message
    assert "no file" in errors["none"]
    for name in ("weights", "garbage", "cut"):
        assert "is not a TorchScript file" in errors[name]
    assert "cannot be called as i3d(videos, rescale=True" in errors["other"]
    assert "expected features (1, D) of 1 videos, got (1, 3, 64, 64)" in errors["maps"]


def test_refuses_features_that_are_not_finite(tmp_path: Path) -> None:
    class Damaged(nn.Module):
        def __init__(self, limit: int) -> None:
            super().__init__()
            self.limit = limit

        def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
            return x.masked_fill(x > self.limit, torch.nan).mean(dim=[2, 3, 4])

    everywhere, bright = tmp_path / "everywhere.pt", tmp_path / "bright.pt"
    torch.jit.script(Damaged(-1)).save(str(everywhere))
    torch.jit.script(Damaged(128)).save(str(bright))
    with pytest.raises(ValueError, match=r"everywhere\.pt returns features that are not finite"):
        FVD(horizon=9, i3d=everywhere)
    metric = FVD(horizon=9, i3d=bright)  # which black frames do not show
    with pytest.raises(ValueError, match=r"bright\.pt returns features that are not finite"):
        metric.update(*clips(2))


def test_refuses_frames_that_the_network_cannot_take(i3d: Path) -> None:
    with pytest.raises(ValueError, match="with 8 frames \\(I3D needs at least 9\\)"):
        FVD(horizon=8, i3d=i3d)
    with pytest.raises(ValueError, match="horizon must be a positive number"):
        FVD(horizon=0, i3d=i3d)
    metric = FVD(horizon=9, i3d=i3d)
    with pytest.raises(ValueError, match="grey or colour frames, got 2 channels"):
        metric.update(*clips(1, channels=2))
    with pytest.raises(ValueError, match="made for horizon=9, got 10 predicted frames"):
        metric.update(*clips(1, frames=10))
