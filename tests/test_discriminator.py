"""The discriminator on frames of any size, and the losses that are made of what it returns."""

import pytest
import torch
from einops import rearrange
from torch.nn import functional as F

from vidpred import losses, weights
from vidpred.models import Discriminator


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("size", "features"), [((64, 64), (2, 2)), ((33, 70), (2, 3)), ((1, 5), (1, 1))]
)
@pytest.mark.parametrize("grid", [(1, 1), (2, 3)])
def test_frames_of_any_size(size, features, grid):
    model = Discriminator(3, 8, downsamplings=5, grid=grid)
    frames = torch.rand(2, 4, 3, *size)
    logits, maps = model(frames)
    assert logits.shape == (2, 4)
    assert maps.shape == (2, 4, 8, *features)
    # Each frame is judged by itself.
    alone, _ = model(frames[1:, 2:3])
    torch.testing.assert_close(alone[0, 0], logits[1, 2])


def test_at_the_size_of_its_grid_the_linear_layer_sees_every_pixel():
    model = Discriminator(3, 8, downsamplings=3, grid=(2, 3))
    logits, maps = model(torch.rand(2, 4, 3, 16, 24))
    torch.testing.assert_close(logits, model.linear(maps.flatten(2)).squeeze(2))


def test_the_settings_of_the_three_data_sets_end_in_their_grid():
    sizes = {(512, 512, 2): (1, 1), (1024, 1024, 4): (1, 1), (2160, 3840, 8): (2, 2)}
    for (height, width, patch), grid in sizes.items():
        model = Discriminator(3, 8, patch=patch, grid=grid)
        with torch.no_grad():
            _, maps = model(torch.rand(1, 1, 3, height, width))
        assert maps.shape[-2:] == grid


def test_a_patch_folds_frames_and_published_weights_with_them(tmp_path):
    ours = Discriminator(3, 8, downsamplings=2, patch=2)
    # The authors' discriminator is one of folded frames, in the order row, column, colour.
    theirs = Discriminator(12, 8, downsamplings=2)
    names = {"layers.0.conv": "main.0", "layers.0.norm": "main.1", "linear": "linear.0"}
    names |= {"layers.1.conv": "main.conv_1", "layers.1.norm": "main.gn_1"}
    state = {
        f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": weight
        for name, weight in theirs.state_dict().items()
    }
    torch.save({"net_param": state}, tmp_path / "model_d.ckpt-1")
    weights.load(ours, tmp_path / "model_d.ckpt-1")
    frames = torch.rand(2, 3, 3, 7, 10)
    padded = torch.cat([frames, frames[..., -1:, :]], dim=-2)
    folded = rearrange(padded, "b t c (h p) (w q) -> b t (p q c) h w", p=2, q=2)
    for found, expected in zip(ours(frames), theirs(folded), strict=True):
        torch.testing.assert_close(found, expected)


def test_every_parameter_receives_a_gradient():
    model = Discriminator(3, 8, downsamplings=6)
    logits, features = model(torch.rand(2, 3, 3, 32, 32))
    (losses.gan_loss(logits) + features.square().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_under_autocast_it_returns_the_dtype_of_the_frames():
    with torch.autocast("cpu", torch.bfloat16):
        for output in Discriminator(1, 8, 3)(torch.rand(1, 2, 1, 16, 16)):
            assert output.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"in_channels": 0}, "at least one channel, got in_channels=0"),
        ({"hidden_channels": 4}, "a multiple of 4 from 8 on, got 4"),
        ({"hidden_channels": 18}, "a multiple of 4 from 8 on, got 18"),
        ({"downsamplings": 0}, r"of at least 1, got 0 and \(1, 1\)"),
        ({"patch": 0}, "patch must be at least 1 pixel, got 0"),
        ({"grid": (1, 0)}, r"of at least 1, got 8 and \(1, 0\)"),
    ],
)
def test_what_it_refuses(options, says):
    with pytest.raises(ValueError, match=says):
        Discriminator(**{"in_channels": 3, **options})


def test_frames_of_other_channels():
    with pytest.raises(ValueError, match=r"built for 3 channel\(s\), got frames"):
        Discriminator(3)(torch.rand(1, 2, 1, 16, 16))


def test_frames_of_another_dtype():
    with pytest.raises(ValueError, match=r"torch.float64, the model's weights torch.float32:"):
        Discriminator(1)(torch.rand(1, 2, 1, 16, 16).double())


def test_losses_are_means_of_the_papers_terms():
    real, fake = torch.randn(3, 5, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    d_real, d_fake = real.sigmoid(), fake.sigmoid()
    torch.testing.assert_close(losses.gan_loss(fake), -d_fake.log().mean())
    expected = -(d_real.log() + (1 - d_fake).log()).mean()
    torch.testing.assert_close(losses.discriminator_loss(real, fake), expected)
    torch.testing.assert_close(losses.lp_loss(real, fake), (real - fake).square().mean())
    # The code's form, of the probability's mean over time, is never larger.
    assert F.binary_cross_entropy(d_fake.mean(1), torch.ones(3).double()) < losses.gan_loss(fake)


def test_losses_are_finite_where_probabilities_saturate():
    sure = torch.full((2, 3), 1e4)
    assert losses.gan_loss(-sure) == 1e4
    assert losses.discriminator_loss(sure, -sure) == 0
