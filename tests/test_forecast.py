import csv
import math
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from vidpred.cells import ConvLSTMCell, STGRUCell
from vidpred.data import MovingMNISTData
from vidpred.metrics import MSE, SSIM, mse_sum, psnr, ssim
from vidpred.models import zoo
from vidpred.sampling import ReverseScheduledSampling, ScheduledSampling, draw_keep
from vidpred.tasks import DelayedStepLR, ForecastTask

CONTEXT, LENGTH = 3, 6
ADAM = partial(torch.optim.Adam, lr=0.01)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def predictor(cell: Any = STGRUCell, hidden_channels=4, layers=1, **arguments):
    return zoo.stacked(cell, hidden_channels=hidden_channels, layers=layers, **arguments)


def task(**arguments: Any):
    arguments = {"predictor": predictor(), "context_length": CONTEXT, "optimizer": ADAM} | arguments
    return ForecastTask(**arguments)


def data(**arguments: Any):
    small: dict[str, Any] = {"length": LENGTH, "canvas": 32, "batch_size": 2, "epoch_size": 8}
    small |= {"val_size": 3, "test_size": 5}
    return MovingMNISTData(**small | arguments)


def trainer(folder, **arguments: Any):
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    return Trainer(**quiet | arguments)


def loader(samples: Any, batch_size=2):
    return DataLoader(samples, batch_size)


class Losses(Callback):
    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs: Any, batch, batch_idx):
        self.values.append(outputs["loss"].item())


def test_it_learns(tmp_path):
    losses = Losses()
    model = task(predictor=predictor(hidden_channels=8), sampling=ScheduledSampling(slope=0.01))
    fit = trainer(tmp_path, max_steps=60, limit_val_batches=0, callbacks=[losses])
    fit.fit(model, data(digits=1, batch_size=4, epoch_size=40))
    assert len(losses.values) == 60
    assert sum(losses.values[-5:]) < 0.5 * sum(losses.values[:5])


@pytest.mark.parametrize(
    "sampling", [ScheduledSampling(start=0.6, slope=0.0), ReverseScheduledSampling(0, 100, 10.0)]
)
def test_the_loss_is_that_of_all_predicted_frames(tmp_path, sampling):
    model = task(sampling=sampling, seed=7, scheduler=None)
    initial = predictor()
    initial.load_state_dict(model.predictor.state_dict())
    losses, frames = Losses(), torch.rand(4, LENGTH, 1, 32, 32)
    fit = trainer(tmp_path, max_steps=2, callbacks=[losses])
    fit.fit(model, loader(list(frames)))
    # The first step by hand, then the second with what the first made of the weights.
    optimizer = ADAM(initial.parameters())
    for step, expected in enumerate(losses.values):
        batch = frames[2 * step : 2 * step + 2]
        keep = draw_keep(sampling, 2, LENGTH, CONTEXT, step=step, seed=7)
        loss = (initial.rollout(batch, keep) - batch[:, 1:]).square().mean()
        assert loss.item() == pytest.approx(expected, rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_the_penalty_of_the_units_is_in_the_loss():
    model = task(predictor=zoo.predrnnv2(hidden_channels=4, layers=2, decoupling=0.5))
    frames, keep = torch.rand(3, LENGTH, 1, 32, 32), torch.ones(3, LENGTH - 1, dtype=torch.bool)
    prediction, state = model.predictor.rollout_with_state(frames, keep)
    *_, penalty = state.cells
    error = (prediction - frames[:, 1:]).square().mean()
    expected = error + penalty.total.mean() / (LENGTH - 1)
    torch.testing.assert_close(model.loss(frames, keep), expected)
    # Half of a mean of cosines, which only a training pays for.
    assert 0 < penalty.total.mean() / (LENGTH - 1) < 0.5
    model.eval()
    torch.testing.assert_close(model.loss(frames, keep), error)


def test_accumulated_gradients_of_a_penalty_are_those_of_the_whole_batch(tmp_path):
    frames = list(torch.rand(4, LENGTH, 1, 16, 16, dtype=torch.float64))

    def trained(batches):
        torch.manual_seed(0)
        model = task(
            predictor=zoo.predrnnv2(hidden_channels=4, layers=2),
            sampling=ScheduledSampling(slope=0),
            optimizer=partial(torch.optim.SGD, lr=10.0),
        )
        fit = trainer(tmp_path, max_steps=1, accumulate_grad_batches=batches, precision="64-true")
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        fit.fit(model, loader(frames, batch_size=4 // batches))
        assert all((weight != before[name]).any() for name, weight in model.state_dict().items())
        return dict(model.state_dict())

    torch.testing.assert_close(trained(batches=1), trained(batches=2), rtol=0, atol=1e-12)


def test_batches_of_one_step_draw_differently(tmp_path):
    half, masks = ScheduledSampling(start=0.5, slope=0), []
    model = task(sampling=half, scheduler=None)
    loss = model.loss
    model.loss = lambda frames, keep: masks.append(keep) or loss(frames, keep)
    frames = loader(list(torch.rand(12, LENGTH, 1, 32, 32)))
    trainer(tmp_path, max_steps=3, accumulate_grad_batches=2).fit(model, frames)
    draws = [
        draw_keep(half, 2, LENGTH, CONTEXT, step=n // 2, batch=n % 2) for n in range(len(masks))
    ]
    assert len(masks) == 6
    assert all(torch.equal(mask, draw) for mask, draw in zip(masks, draws, strict=True))
    assert len({mask.numpy().tobytes() for mask in masks}) > 3


def test_bfloat16_keeps_weights_and_state_in_float32(tmp_path):
    dtypes = set()

    class Spy(STGRUCell):
        def forward(self, flow, state):
            flow, state = super().forward(flow, state)
            dtypes.update({flow.dtype, state.t.dtype})
            return flow, state

    model = task(predictor=predictor(Spy))
    trainer(tmp_path, max_steps=2, precision="bf16-mixed").fit(model, data())
    assert dtypes == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(p.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("clip", "length"), [(1e-3, 1e-3), (None, None)])
def test_gradients_are_clipped(tmp_path, clip, length):
    model = task(optimizer=partial(torch.optim.SGD, lr=1.0), scheduler=None)
    before = [weight.detach().clone() for weight in model.parameters()]
    trainer(tmp_path, max_steps=1, gradient_clip_val=clip).fit(model, data())
    changes = [after - was for after, was in zip(model.parameters(), before, strict=True)]
    norm = torch.nn.utils.get_total_norm(changes).item()
    if length:
        assert norm == pytest.approx(length, rel=1e-3)
    else:
        assert norm > 0.1


@pytest.mark.parametrize(
    ("scheduler", "rates"),
    [
        (DelayedStepLR, [1.0] * 5),
        (partial(DelayedStepLR, start=2, every=2, factor=0.5), [1.0, 1.0, 0.5, 0.5, 0.25]),
        (partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5), [0.5**n for n in range(5)]),
        (None, [1.0] * 5),
    ],
)
def test_schedules_advance_every_step(tmp_path, scheduler, rates):
    seen = []

    class Rate(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            seen.append(optimizer.param_groups[0]["lr"])

    model = task(scheduler=scheduler, optimizer=partial(torch.optim.SGD, lr=1.0))
    fit = trainer(tmp_path, max_steps=5, callbacks=[Rate()], gradient_clip_val=1e-6)
    fit.fit(model, data())
    assert seen == pytest.approx(rates)


def test_plateau_schedule_watches_the_validation(tmp_path):
    plateau = partial(
        torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0, threshold=1e6, threshold_mode="abs"
    )
    model = task(scheduler=plateau)
    fit = trainer(tmp_path, max_epochs=3, limit_train_batches=1)
    fit.fit(model, data())
    # No change is an improvement by that threshold: a tenth at the end of epochs 1 and 2.
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * 0.1**2)


def test_published_schedule():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    scheduler = DelayedStepLR(optimizer)
    expected = {49_999: 0, 50_000: 1, 51_999: 1, 52_000: 2, 150_000: 51}
    for step, times in expected.items():
        scheduler.last_epoch = step
        assert scheduler.get_lr() == [pytest.approx(1e-3 * 0.9**times)]


def test_non_finite_loss_stops_before_it_does_harm(tmp_path):
    model = task()

    class Break(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 5:
                next(pl_module.parameters()).data.fill_(math.nan)

    fit = trainer(tmp_path, max_steps=20, limit_val_batches=0, callbacks=[Break()])
    message = r"the loss is nan at step 5, batch 1 of epoch 1: [^\n]*$"
    with pytest.raises(FloatingPointError, match=message):
        fit.fit(model, data(epoch_size=8))
    assert fit.global_step == 5


@pytest.mark.parametrize(
    ("shape", "scale", "error", "message"),
    [
        ((4, LENGTH, 1, 32, 32), 255.0, ValueError, r"must lie in \[0, 1\]"),
        ((4, LENGTH, 1, 32, 32), math.nan, ValueError, r"must lie in \[0, 1\]"),
        ((4, LENGTH, 3, 32, 32), 1.0, ValueError, "built for 1 channel"),
        ((4, LENGTH, 32, 32), 1.0, ValueError, r"must be \(B, T, C, H, W\)"),
        ((4, CONTEXT, 1, 32, 32), 1.0, ValueError, "context_length=3 .* clips of 3 frames"),
        ((4, 2, 1, 32, 32), 1.0, ValueError, "context_length=3 .* clips of 2 frames"),
    ],
)
def test_bad_batches(tmp_path, shape, scale, error, message):
    frames = loader(list(scale * torch.rand(*shape)))
    runs = [
        lambda t: t.fit(task(), frames),
        lambda t: t.validate(task(), frames, verbose=False),
        lambda t: t.predict(task(), frames),
    ]
    for run in runs:
        with pytest.raises(error, match=message) as caught:
            run(trainer(tmp_path, max_steps=1))
        assert "\n" not in str(caught.value)


def test_a_batch_is_one_tensor(tmp_path):
    pairs = loader([(torch.rand(LENGTH, 1, 32, 32), 3)] * 2)
    with pytest.raises(TypeError, match=r"one tensor \(B, T, C, H, W\), got list"):
        trainer(tmp_path, max_steps=1).fit(task(), pairs)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_every_precision_trains_and_tests(tmp_path, precision):
    model, source = task(), data()
    fit = trainer(tmp_path, max_steps=2, precision=precision)
    fit.fit(model, source)
    fit.test(model, source, verbose=False)
    assert all(values.isfinite().all() for values in model.results["model"].values())


def test_a_checkpoint_of_another_optimiser_is_refused(tmp_path):
    fit = trainer(tmp_path, max_steps=1)
    fit.fit(task(), data())
    fit.save_checkpoint(tmp_path / "adam.ckpt")
    other = task(optimizer=partial(torch.optim.RMSprop, lr=1e-3))
    with pytest.raises(ValueError, match="trained with Adam, this run has RMSprop"):
        trainer(tmp_path, max_steps=2).fit(
            other, data(), ckpt_path=tmp_path / "adam.ckpt", weights_only=True
        )
    trainer(tmp_path).test(
        other, data(), ckpt_path=tmp_path / "adam.ckpt", weights_only=True, verbose=False
    )


def test_a_plateau_schedule_waits_for_the_first_validation(tmp_path):
    schedule = partial(torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0)
    fit = trainer(tmp_path, max_steps=12, val_check_interval=6, check_val_every_n_epoch=None)
    fit.fit(task(scheduler=schedule), data())
    assert fit.current_epoch > 1


def test_a_plateau_schedule_without_validation_is_refused(tmp_path):
    fit = trainer(tmp_path, max_steps=1, limit_val_batches=0)
    with pytest.raises(ValueError, match=r"^ReduceLROnPlateau waits for validations, .* none"):
        fit.fit(task(scheduler=torch.optim.lr_scheduler.ReduceLROnPlateau), data())


def test_a_negative_norm_of_gradients_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"gradient_clip_val is a norm, .* got -1"):
        trainer(tmp_path, max_steps=1, gradient_clip_val=-1).fit(task(), data())


def test_an_optimiser_that_takes_the_loss_several_times(tmp_path):
    losses = Losses()
    model = task(optimizer=torch.optim.LBFGS)
    trainer(tmp_path, max_steps=2, callbacks=[losses]).fit(model, data())
    assert losses.values[1] < losses.values[0] / 2


@pytest.mark.parametrize("context_length", [0, 2.5])
def test_context_must_be_a_number_of_frames(context_length):
    with pytest.raises(ValueError, match=f"at least 1 known frame, got {context_length}"):
        task(context_length=context_length)


@pytest.mark.parametrize("wrong", [zoo.stau, torch.nn.Identity()])
def test_only_predictors_are_trained(wrong):
    with pytest.raises(TypeError, match=r"a vidpred\.models\.Predictor, got a \w+: [^\n]+$"):
        task(predictor=wrong)


def test_a_compiled_core_trains_alike(tmp_path):
    plain, compiled = task(predictor=predictor()), task(predictor=predictor())
    compiled.load_state_dict(plain.state_dict())
    compiled.predictor.core.compile(backend="aot_eager")
    for model in (plain, compiled):
        trainer(tmp_path, max_steps=2).fit(model, data())
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    for name, weight in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], weight, rtol=0, atol=1e-4)


def test_validation_and_test_report_the_metrics_of_a_forecast(tmp_path, capsys):
    model, source = task(), data()
    fit = trainer(tmp_path)
    logged = fit.validate(model, source, verbose=False)[0]
    assert set(model.results) == {"model"}
    assert logged.keys() == {"val_mse", "val_psnr", "val_ssim"}
    fit.test(model, source, verbose=False)
    frames = torch.cat(list(source.test_dataloader())) / 255
    known, truth = frames[:, :CONTEXT], frames[:, CONTEXT:]
    with torch.no_grad():
        forecasts = {"model": model.predictor(known, LENGTH - CONTEXT).clamp(0, 1)}
    forecasts["copy last frame"] = known[:, -1:].expand_as(truth)
    scores = {"MSE": mse_sum, "PSNR": psnr, "SSIM": partial(ssim, data_range=1)}
    assert set(model.results) == set(forecasts)
    for name, forecast in forecasts.items():
        assert list(model.results[name]) == list(scores)
        for metric, score in scores.items():
            expected = score(forecast, truth).mean(dim=0)
            torch.testing.assert_close(model.results[name][metric], expected)
    for metric in scores:
        mean = model.results["model"][metric].mean().item()
        assert fit.callback_metrics[f"test_{metric.lower()}"].item() == pytest.approx(mean)

    printed = capsys.readouterr().out
    assert model.table() in printed
    with (tmp_path / "test.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "mean"]
    assert float(rows[1]["MSE"]) == pytest.approx(model.results["model"]["MSE"][1].item())
    copied = model.results["copy last frame"]["SSIM"]
    assert float(rows[3]["SSIM (copy)"]) == pytest.approx(copied.mean().item())
    assert (tmp_path / "test.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_the_clips_of_several_loaders_are_scored_together(tmp_path, stage):
    clips, model, logged = torch.rand(3, LENGTH, 1, 16, 16), task(), []
    for loaders in ([loader(clips[:1]), loader(clips[1:])], loader(clips)):
        run = trainer(tmp_path)
        getattr(run, stage)(model, loaders, verbose=False)
        logged.append({name: float(value) for name, value in run.callback_metrics.items()})
    assert len(logged[0]) == 3
    assert logged[0] == pytest.approx(logged[1], rel=1e-5)


def test_metrics_can_be_chosen(tmp_path):
    metrics = {"mean error": MSE, "SSIM": partial(SSIM, data_range=2)}
    model = task(metrics=metrics)
    trainer(tmp_path).validate(model, data(), verbose=False)
    assert model.results["model"].keys() == metrics.keys()


def test_predictions_are_frames(tmp_path):
    model, frames = task(), torch.rand(3, LENGTH, 1, 32, 32)
    batches: Any = trainer(tmp_path).predict(model, loader(list(frames)))
    predictions = torch.cat(batches)
    assert predictions.shape == (3, LENGTH - CONTEXT, 1, 32, 32)
    assert predictions.min() >= 0
    assert predictions.max() <= 1
    with torch.no_grad():
        raw = model.predictor(frames[:, :CONTEXT], LENGTH - CONTEXT)
    torch.testing.assert_close(predictions, raw.clamp(0, 1))
    assert not torch.equal(predictions, raw)


def test_checkpoints_hold_tensors_and_numbers_alone(tmp_path):
    fit = trainer(tmp_path, max_steps=2, limit_val_batches=0)
    model = task(scheduler=partial(DelayedStepLR, start=1))
    fit.fit(model, data())
    path = tmp_path / "a.ckpt"
    fit.save_checkpoint(path)
    content = torch.load(path, weights_only=True)
    assert "hyper_parameters" not in content
    again = ForecastTask.load_from_checkpoint(path, weights_only=True, predictor=predictor())
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)


@pytest.mark.parametrize("other", [predictor(ConvLSTMCell), predictor(hidden_channels=8)])
def test_checkpoint_of_another_model(tmp_path, other):
    fit = trainer(tmp_path, max_steps=1, limit_val_batches=0)
    fit.fit(task(), data())
    path = tmp_path / "a.ckpt"
    fit.save_checkpoint(path)
    with pytest.raises(ValueError, match=r"of another model .*; .*: predictor\.") as e:
        trainer(tmp_path).fit(task(predictor=other), data(), ckpt_path=path, weights_only=True)
    assert "\n" not in str(e.value)
