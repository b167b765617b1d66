"""The time loop: forecasting, training and streaming are the same recurrence."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from vidpred.cells import ConvGRUCell, STGRUCell, total_penalty
from vidpred.cells.base import is_channels_last
from vidpred.models import ClipState, FreeRunningPredictor, Predictor, zoo

CHANNELS = 2
MODELS: dict[str, Callable[[], Predictor]] = {
    "stau": lambda: zoo.stau(CHANNELS, 4, 2, kernel_size=3, tau=2),
    "stau-recall": lambda: zoo.stau(CHANNELS, 4, 2, kernel_size=3, tau=2, recall=0.5, gamma=1.0),
    "mau": lambda: zoo.mau(CHANNELS, 4, 2, kernel_size=3, tau=2),
    "iprnn": lambda: zoo.iprnn(CHANNELS, 4, 2, kernel_size=3),
    "predrnn": lambda: zoo.predrnn(CHANNELS, 4, 2, kernel_size=3),
    "predrnnpp": lambda: zoo.predrnnpp(CHANNELS, 4, 2, kernel_size=3),
    "mim": lambda: zoo.mim(CHANNELS, 4, 2, kernel_size=3),
    "predrnnv2": lambda: zoo.predrnnv2(CHANNELS, 4, 2, kernel_size=3),
    "motionrnn": lambda: zoo.motionrnn(CHANNELS, 4, 2, kernel_size=3),
    "strpm": lambda: zoo.strpm(CHANNELS, 4, 2, 1, kernel_size=3, patch=2, tau=2),
    "stip": lambda: zoo.stip(CHANNELS, 4, 2, 1, kernel_size=3),
    "stip-one-domain": lambda: zoo.stip(CHANNELS, 4, 2, 2, patch=1, length=3, separate=False),
    "stip-convgru": lambda: zoo.stip(CHANNELS, 4, 2, 2, patch=1, cell=ConvGRUCell),
    "stae": lambda: zoo.stae(CHANNELS, 4, 2, 1, kernel_size=3, patch=2, tau=2),
    "stae-one-domain": lambda: zoo.stae(CHANNELS, 4, 2, patch=1, length=3, separate=False),
    "e3d_lstm": lambda: zoo.e3d_lstm(CHANNELS, 4, 2, kernel_size=3, tau=2),
    "stam": lambda: zoo.stam(CHANNELS, 4, 2, tau=2),
    "crevnet": lambda: zoo.crevnet(CHANNELS, 2, blocks=(1, 1)),
    "convlstm": lambda: zoo.convlstm(CHANNELS, 4, 2, kernel_size=3, patch=2),
    "sa_convlstm": lambda: zoo.sa_convlstm(CHANNELS, 4, 2, kernel_size=3),
    "phydnet": lambda: zoo.phydnet(CHANNELS, 4, 2, kernel_size=3),
    "stacked": lambda: zoo.stacked(ConvGRUCell, CHANNELS, 4, 2, 3),
    "trajgru": lambda: zoo.trajgru(CHANNELS, (4, 6), (1, 2), links=2, frame_channels=3),
    "frnn": lambda: zoo.frnn(CHANNELS, 4, (2, 1), kernel_size=3, frame_channels=(3,)),
    "trajgru-coarse": lambda: zoo.trajgru(CHANNELS, 4, (2, 3, 2), links=2, frame_channels=3),
}
any_model = pytest.mark.parametrize("name", MODELS)


def test_no_model_is_left_out() -> None:
    published = {name for name in zoo.__all__ if name.startswith(("stip_", "stae_"))}  # settings
    tried = {name.partition("-")[0] for name in MODELS}
    assert tried | {"encoder_forecaster"} == set(zoo.__all__) - published  # it makes the TrajGRUs


def build(name: str, dtype: torch.dtype = torch.float64) -> Predictor:
    torch.manual_seed(0)
    return MODELS[name]().to(dtype)


def clip(
    steps: int, size: tuple[int, int] = (8, 8), batch: int = 2, dtype: torch.dtype = torch.float64
) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, steps, CHANNELS, *size, generator=generator, dtype=dtype)


def stream(
    model: Predictor, frames: Tensor, keep: Tensor, *, detach: bool = False
) -> tuple[Tensor, list[Any]]:
    """Sample by sample, step by step: the true frame where ``keep``, else the prediction of it."""
    clips, states = [], []
    for sample, kept in zip(frames, keep, strict=True):
        state = model.init_state(sample[:1])
        predictions: list[Tensor] = []
        for t, is_kept in enumerate(kept):
            known = t == 0 or bool(is_kept)
            frame = sample[t : t + 1] if known else predictions[-1]
            prediction, state = model.step(frame.detach() if detach else frame, state, known)
            predictions.append(prediction)
            states.append(state)
        clips.append(torch.cat(predictions))
    return torch.stack(clips), states


def keep_first(batch: int, steps: int, context: int) -> Tensor:
    """True frames up to ``context``, predictions after."""
    return (torch.arange(steps) < context).expand(batch, steps)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@any_model
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (13, 6), (1, 1)], ids=str)
@pytest.mark.parametrize(("context", "horizon"), [(1, 1), (3, 1), (1, 4), (2, 7)])
def test_forward_any_size_and_horizon(
    name: str, size: tuple[int, int], context: int, horizon: int
) -> None:
    frames = clip(context, size)
    given = frames.clone()
    with torch.no_grad():
        predicted = build(name)(frames, horizon)
    assert predicted.shape == (2, horizon, CHANNELS, *size)
    assert predicted.dtype == torch.float64
    assert predicted.isfinite().all()
    assert torch.equal(frames, given)


@any_model
def test_forward_is_streaming(name: str) -> None:
    model, context = build(name), clip(3, (7, 9))
    with torch.no_grad():
        keep = keep_first(2, 3 + 4 - 1, context=3)
        expected, _ = stream(model, torch.cat([context, torch.full_like(context, 9.0)], 1), keep)
        close(model(context, 4), expected[:, 2:])
        close(model(context, 1), expected[:, 2:3])


@any_model
def test_rollout_with_true_frames_is_streaming(name: str) -> None:
    model, frames = build(name), clip(6, (7, 9))
    keep = torch.ones(2, 5, dtype=torch.bool)
    with torch.no_grad():
        close(model.rollout(frames, keep), stream(model, frames, keep)[0])


@any_model
def test_rollout_without_true_frames_after_the_context_is_forward(name: str) -> None:
    model, frames = build(name), clip(7, (7, 9))
    with torch.no_grad():
        predicted = model.rollout(frames, keep_first(2, 6, context=3))
        close(predicted[:, 2:], model(frames[:, :3], 4))
        # And what comes after the context is never looked at.
        frames[:, 3:] = float("nan")
        close(model.rollout(frames, keep_first(2, 6, context=3)), predicted)


@any_model
@pytest.mark.parametrize("seed", range(3))
def test_rollout_with_keep_by_sample_is_streaming(name: str, seed: int) -> None:
    model, frames = build(name), clip(7, (7, 9), batch=3)
    keep = torch.rand(3, 6, generator=torch.Generator().manual_seed(seed)) < 0.5
    keep[:, 2], keep[:, 4] = True, False
    with torch.no_grad():
        predicted = model.rollout(frames, keep)
        close(predicted, stream(model, frames, keep)[0])
        keep[:, 0] = ~keep[:, 0]  # the first frame is always true
        assert torch.equal(model.rollout(frames, keep), predicted)


@any_model
def test_shortest_rollout(name: str) -> None:
    model, frames = build(name), clip(2)
    with torch.no_grad():
        predicted = model.rollout(frames, torch.zeros(2, 1, dtype=torch.bool))
        close(predicted, model(frames[:, :1], 1))


@any_model
def test_a_prediction_depends_on_frames_so_far_and_on_none_after(name: str) -> None:
    model = build(name)
    keep = torch.tensor([[True, True, False, True, True], [True, False, False, False, True]])
    frames = clip(6).requires_grad_()
    predicted = model.rollout(frames, keep)
    for t in range(5):
        (gradient,) = torch.autograd.grad(predicted[:, t].square().sum(), frames, retain_graph=True)
        for b in range(2):
            for s in range(6):
                entered = s == 0 or (s <= t and bool(keep[b, s]))
                assert bool(gradient[b, s].any()) == entered, (t, b, s)


@any_model
def test_samples_are_independent(name: str) -> None:
    model, frames = build(name), clip(5, batch=3)
    keep = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    with torch.no_grad():
        together = model.rollout(frames, keep)
        for b in range(3):
            close(model.rollout(frames[b : b + 1], keep[b : b + 1]), together[b : b + 1])


@any_model
def test_gradients_pass_through_the_frames_fed_back(name: str) -> None:
    model, frames = build(name), clip(5, batch=1)
    keep = keep_first(1, 4, context=2)

    def gradients(predicted: Tensor, state: Any) -> Tensor:
        loss = (predicted - frames[:, 1:]).square().mean() + total_penalty(state)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*model.parameters()])])

    def streamed(detach: bool) -> Tensor:
        predicted, states = stream(model, frames, keep, detach=detach)
        return gradients(predicted, states[-1])

    expected = streamed(detach=False)
    passes = not isinstance(model, FreeRunningPredictor)  # which looks at no prediction
    assert bool((expected - streamed(detach=True)).abs().max() > 1e-9) == passes
    close(gradients(*model.rollout_with_state(frames, keep)), expected)


@any_model
def test_rollout_with_state_ends_in_the_state_of_streaming(name: str) -> None:
    model, frames = build(name), clip(5, batch=1)
    keep = keep_first(1, 4, context=2)
    with torch.no_grad():
        predicted, state = model.rollout_with_state(frames, keep)
        expected, states = stream(model, frames, keep)
    close(predicted, expected)
    for a, b in zip(tree_leaves(state), tree_leaves(states[-1]), strict=True):
        close(a, b)


@any_model
def test_every_parameter_of_a_model_is_trained(name: str) -> None:
    model, frames = build(name), clip(5)
    predicted, state = model.rollout_with_state(frames, keep_first(2, 4, context=2))
    (predicted.square().sum() + total_penalty(state)).backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.isfinite().all(), label
        assert parameter.grad.any(), label


@pytest.mark.parametrize("size", [(6, 9), (5, 4), (3, 3)])
def test_frames_are_padded_with_their_border_and_predictions_cropped(
    size: tuple[int, int],
) -> None:
    model, frames = build("iprnn"), clip(3, size)
    height, width = size
    whole = F.pad(frames.flatten(0, 1), (0, -width % 4, 0, -height % 4), mode="replicate")
    with torch.no_grad():
        expected = model(whole.unflatten(0, (2, 3)), 1)[..., :height, :width]
        close(model(frames, 1), expected)


def test_recall_shows_the_decoder_the_encoder_s_features() -> None:
    torch.manual_seed(0)
    plain = zoo.stacked(STGRUCell, CHANNELS, 4, 2, 2).double()
    recalling = zoo.stacked(STGRUCell, CHANNELS, 4, 2, 2, recall=1.0).double()
    recalling.load_state_dict(plain.state_dict())
    frames = clip(3)
    with torch.no_grad():
        assert not torch.allclose(plain(frames, 1), recalling(frames, 1))
        # The finest feature map is recalled at the end: one pixel of it moves its own pixel.
        frame = frames[:, -1]
        *finer, coarsest = recalling.encoder(frame)
        top = torch.zeros_like(coarsest)
        with_all = recalling.decoder(top, finer)
        finer[0][..., 3, 5] += 1.0
        moved = (recalling.decoder(top, finer) - with_all).abs().amax(dim=(0, 1))
    assert moved.nonzero().tolist() == [[3, 5]]


def calls(model: Predictor) -> dict[str, int]:
    counts = {"encoder": 0, "decoder": 0}

    def count(part: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            counts[part] += 1

        return hook

    model.encoder.register_forward_hook(count("encoder"))
    model.decoder.register_forward_hook(count("decoder"))
    return counts


@any_model
def test_what_nobody_sees_is_not_computed(name: str) -> None:
    frames = clip(6)
    with torch.no_grad():
        counts = calls(model := build(name))
        model(frames, 4)  # the predictions of the context's own frames are not decoded
        fed_back = 0 if isinstance(model, FreeRunningPredictor) else 3
        assert counts == {"encoder": 6 + fed_back, "decoder": 4}


@any_model
def test_under_autocast_the_state_stays_in_float32(name: str) -> None:
    model, frames = build(name, torch.float32), clip(3, dtype=torch.float32)
    keep = keep_first(2, 2, context=1)
    with torch.no_grad():
        exact, exact_rollout = model(frames, 4), model.rollout(frames, keep)
        with torch.autocast("cpu", torch.bfloat16):
            state, frame = model.init_state(frames[:, 0]), frames[:, 0]
            for _ in range(4):
                frame, state = model.step(frame, state)
                assert {leaf.dtype for leaf in tree_leaves(state)} == {torch.float32}
            predicted, rolled = model(frames, 4), model.rollout(frames, keep)
    assert frame.dtype == predicted.dtype == rolled.dtype == torch.float32
    assert 0 < (predicted - exact).abs().max() < 0.1
    assert 0 < (rolled - exact_rollout).abs().max() < 0.1


@pytest.mark.parametrize("name", ["convlstm", "mim", "predrnn", "stau"])
def test_under_autocast_the_state_stays_in_the_dtype_of_the_frames(name: str) -> None:
    model, frames = build(name, torch.float32), clip(3, dtype=torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        state = model.init_state(frames[:, 0])
        for frame in frames.unbind(dim=1):
            predicted, state = model.step(frame, state)
    assert {leaf.dtype for leaf in [predicted, *tree_leaves(state)]} == {torch.bfloat16}


@any_model
def test_runs_in_bfloat16(name: str) -> None:
    model = build(name, torch.bfloat16)
    with torch.no_grad():
        predicted = model(clip(2, dtype=torch.bfloat16), 2)
    assert predicted.dtype == torch.bfloat16
    assert predicted.isfinite().all()


@any_model
def test_weights_and_feature_maps_are_channels_last(name: str) -> None:
    model, frames = build(name), clip(4)

    assert all(is_channels_last(weight) for weight in model.parameters() if weight.dim() > 3)
    decoded: list[Tensor] = []
    model.decoder.register_forward_pre_hook(lambda *given: decoded.extend(tree_leaves(given[1])))
    with torch.no_grad():
        predicted = model(frames, 3)
        _, states = stream(model, frames[:1], keep_first(1, 4, context=2))
        assert decoded
        # A clip's frames stay as they came.
        maps = [state.core if isinstance(state, ClipState) else state for state in states]
        assert all(is_channels_last(tensor) for tensor in [*decoded, *tree_leaves(maps)])
        # In whatever layout the frames come.
        other = frames.permute(1, 0, 3, 4, 2).contiguous().permute(1, 0, 4, 2, 3)
        close(model(other, 3), predicted)
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        close(model(frames, 3), predicted)


def test_maps_of_grey_frames_are_channels_last() -> None:
    model = zoo.stacked(STGRUCell, hidden_channels=8)
    for feature in model._encode(torch.rand(2, 1, 16, 16)):
        assert feature.is_contiguous(memory_format=torch.channels_last)


@any_model
def test_forward_exports_for_a_horizon(name: str) -> None:
    model, context = build(name), clip(1, (7, 9))
    exported = torch.export.export(model, (context,), {"horizon": 2}).module()
    with torch.no_grad():
        close(exported(context, horizon=2), model(context, horizon=2))
        again = clip(2, (7, 9))[:, 1:]
        close(exported(again, horizon=2), model(again, horizon=2))


@pytest.mark.parametrize("name", ["stau-recall", "iprnn", "predrnn", "trajgru", "frnn"])
def test_step_compiles(name: str) -> None:
    model, frames = build(name), clip(3, (7, 9))
    torch.compiler.reset()
    step = torch.compile(model.step, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        state = expected_state = model.init_state(frames[:, 0])
        predicted, state = step(frames[:, 0], state)
        with torch.compiler.set_stance("fail_on_recompile"):
            predicted, state = step(frames[:, 1], state)
        for frame in (frames[:, 0], frames[:, 1]):
            expected, expected_state = model.step(frame, expected_state)
    torch.compiler.reset()
    got, wanted = tree_leaves([predicted, state]), tree_leaves([expected, expected_state])
    for a, b in zip(got, wanted, strict=True):
        close(a, b)


@any_model
def test_a_stream_may_fill_one_buffer_again_and_again(name: str) -> None:
    model, frames = build(name), clip(4)
    with torch.no_grad():
        buffer = torch.empty_like(frames[:, 0])
        state, expected_state = model.init_state(buffer), model.init_state(buffer)
        for frame in frames.unbind(dim=1):
            predicted, state = model.step(buffer.copy_(frame), state)
            expected, expected_state = model.step(frame, expected_state)
            close(predicted, expected)


@any_model
@pytest.mark.parametrize("known", [True, False])
def test_step_refuses_a_state_of_another_batch(name: str, known: bool) -> None:
    model, frame = build(name), clip(1)[:, 0]
    with pytest.raises(ValueError, match=r"Predictor got a batch of 2 with .* batch of 1: begin"):
        model.step(frame, model.init_state(frame[:1]), known)


def test_deepcopy_predicts_the_same() -> None:
    model, context = build("iprnn"), clip(2)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(model)(context, 2), model(context, 2))


def with_value(frames: Tensor, value: float) -> Tensor:
    frames = frames.clone()
    frames[1, 1, 0, 2, 2] = value
    return frames


GOOD = clip(3)
ALL = torch.ones(2, 2, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m(GOOD[0], 1), r"must be \(B, T, C, H, W\), got shape \(3, 2, 8, 8\)"),
        (lambda m: m(GOOD[None], 1), r"got shape \(1, 2, 3, 2, 8, 8\)"),
        (
            lambda m: m(GOOD[:, :, :1], 1),
            r"built for 2 channel.*\(2, 3, 1, 8, 8\); pass in_channels=1 when building it$",
        ),
        (
            lambda m: m(GOOD.movedim(2, -1), 1),
            r"\(2, 3, 8, 8, 2\); their channels are last: permute them to \(B, T, C, H, W\)$",
        ),
        (lambda m: m(GOOD.transpose(1, 2), 1), r"built for 2 channel.*\(2, 2, 3, 8, 8\)"),
        (lambda m: m((GOOD * 255).to(torch.uint8), 1), r"floats in \[0, 1\], got torch.uint8"),
        (
            lambda m: m(GOOD.float(), 1),
            r"are torch.float32, the model's weights torch.float64: conv",
        ),
        (lambda m: m(GOOD * 255, 1), r"must lie in \[0, 1\], got values in \[.*, 25\d\.\d*\]"),
        (lambda m: m(with_value(GOOD, -0.25), 1), r"must lie in \[0, 1\], .* \[-0.25, "),
        (lambda m: m(with_value(GOOD, float("nan")), 1), r"must lie in \[0, 1\], .* nan"),
        (lambda m: m(with_value(GOOD, float("inf")), 1), r"must lie in \[0, 1\], .* inf"),
        (lambda m: m(GOOD[:, :0], 1), r"not be empty, got shape \(2, 0, 2, 8, 8\)"),
        (lambda m: m(GOOD[:0], 1), r"not be empty, got shape \(0, 3, 2, 8, 8\)"),
        (lambda m: m(GOOD, 0), "horizon must be at least 1 .* got 0"),
        (lambda m: m(GOOD, -3), "horizon must be at least 1 .* got -3"),
        (lambda m: m.rollout(GOOD[0], ALL), r"must be \(B, T, C, H, W\), got shape"),
        (lambda m: m.rollout(GOOD[:, :, :1], ALL), "built for 2 channel"),
        (lambda m: m.rollout(GOOD.to(torch.uint8), ALL), r"floats in \[0, 1\], got torch.uint8"),
        (lambda m: m.rollout(GOOD[:, :1], ALL[:, :0]), "T at least 2"),
        (
            lambda m: m.rollout(GOOD, ALL[:1]),
            r"keep must .* \(1, 2\), torch.bool and \(2, 3, 2, 8, 8\)",
        ),
        (
            lambda m: m.rollout(GOOD, ALL[:, :1]),
            r"keep must .* \(2, 1\), torch.bool and \(2, 3, 2, 8, 8\)",
        ),
        (
            lambda m: m.rollout(GOOD, ALL[0]),
            r"keep must .* \(2,\), torch.bool and \(2, 3, 2, 8, 8\)",
        ),
        (lambda m: m.rollout(GOOD, ALL.double()), "keep must be .*bool.* torch.float64"),
        (lambda m: m.step(GOOD[0, 0], None), r"\(B, C, H, W\), got shape \(2, 8, 8\)"),
        (lambda m: m.step(GOOD, None), r"\(B, C, H, W\), got shape \(2, 3, 2, 8, 8\)"),
        (lambda m: m.step(GOOD[:, 0, :1], None), "built for 2 channel"),
        (lambda m: m.step(GOOD[:, 0].movedim(1, -1), None), "channels are last: permute them"),
    ],
)
def test_what_a_predictor_refuses(call: Callable[[Predictor], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        call(build("iprnn"))
    assert "\n" not in str(error.value)
