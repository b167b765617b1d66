"""The adversarial task against its algorithm, written out."""

import math
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy
from test_forecast import CONTEXT, LENGTH, Losses, data, loader, predictor, trainer

from vidpred.models import Discriminator, zoo
from vidpred.sampling import ScheduledSampling, draw_keep
from vidpred.tasks import AdversarialTask, DelayedStepLR, ForecastTask

ADAM = partial(torch.optim.Adam, lr=0.01)
HALF = ScheduledSampling(start=0.5, slope=0)
STEPS = 3


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def task(**arguments: Any):
    defaults = {
        "predictor": predictor(),
        "discriminator": Discriminator(1, 8, downsamplings=4),
        "lp_weight": 0.3,
        "gan_weight": 0.2,
        "context_length": CONTEXT,
        "sampling": HALF,
        "optimizer": ADAM,
        "discriminator_optimizer": partial(torch.optim.Adam, lr=0.02),
        "scheduler": None,
        "discriminator_scheduler": None,
        "seed": 7,
    }
    return AdversarialTask(**defaults | arguments)


class Logged(Callback):
    """What was logged at every batch."""

    def __init__(self):
        self.values: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, *_: Any):
        self.values.append({name: x.item() for name, x in trainer.callback_metrics.items()})


def by_hand(model: Any, frames: torch.Tensor, batches=1):
    """Algorithm 1 of the paper, in plain torch; of some batches that make a step together."""
    p, d = model.predictor, model.discriminator
    p_step, d_step = ADAM(p.parameters()), torch.optim.Adam(d.parameters(), lr=0.02)
    logged = []
    for n, batch in enumerate(frames.split(2)):
        step, part = divmod(n, batches)
        last = part == batches - 1
        keep = draw_keep(HALF, 2, LENGTH, CONTEXT, step=step, batch=part, seed=7)
        truth, prediction = batch[:, 1:], p.rollout(batch, keep)
        real, fake = d(truth)[0].sigmoid(), d(prediction.detach())[0].sigmoid()
        d_loss = -(real.log() + (1 - fake).log()).mean()
        (d_loss / batches).backward()
        if last:
            d_step.step()
            d_step.zero_grad()
        mse = (prediction - truth).square().mean()
        logits, features = d(prediction)
        lp = (features - d(truth)[1].detach()).square().mean()
        gan = -logits.sigmoid().log().mean()
        loss = mse + 0.3 * lp + 0.2 * gan
        (loss / batches).backward(inputs=list(p.parameters()))
        if last:
            p_step.step()
            p_step.zero_grad()
        logged.append(
            {
                "train_loss": loss,
                "train_mse": mse,
                "train_lp": lp,
                "train_gan": gan,
                "d_loss": d_loss,
                "d_real": real.mean(),
                "d_fake": fake.mean(),
                "log_d_real": real.log().mean(),
                "log_d_fake": fake.log().mean(),
            }
        )
    return [{name: x.item() for name, x in terms.items()} for terms in logged]


@pytest.mark.parametrize("batches", [1, 2])
def test_steps_are_those_of_the_algorithm(tmp_path, batches):
    model, twin = task(accumulate_grad_batches=batches), task()
    twin.load_state_dict(model.state_dict())
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    frames, logged = torch.rand(2 * STEPS * batches, LENGTH, 1, 32, 32), Logged()
    fit = trainer(tmp_path, max_steps=STEPS, callbacks=[logged])
    fit.fit(model, loader(list(frames)))
    assert fit.global_step == STEPS
    expected = by_hand(twin, frames, batches)
    assert logged.values == [pytest.approx(terms, rel=1e-4) for terms in expected]
    for name, weight in twin.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], weight, rtol=0, atol=1e-4)
        assert (weight - before[name]).abs().max() > 5e-3, name


def test_an_epoch_ends_with_a_step(tmp_path):
    model = task(accumulate_grad_batches=2)
    fit = trainer(tmp_path, max_epochs=2)
    fit.fit(model, data(epoch_size=6))  # three batches: a step of two, a step of one
    assert fit.global_step == 4
    fit.fit_loop.max_epochs = 3
    fit.fit(model, data(epoch_size=6))  # the same Trainer again
    assert fit.global_step == 6


@pytest.mark.parametrize("weights", [(0.0, 0.2), (0.3, 0.0)])
def test_each_loss_alone(tmp_path, weights):
    lp, gan = weights
    model, logged = task(lp_weight=lp, gan_weight=gan), Logged()
    before = [weight.clone() for weight in model.discriminator.parameters()]
    trainer(tmp_path, max_steps=1, callbacks=[logged]).fit(model, data())
    (terms,) = logged.values
    expected = terms["train_mse"] + lp * terms["train_lp"] + gan * terms["train_gan"]
    assert terms["train_loss"] == pytest.approx(expected)
    after = model.discriminator.parameters()
    assert all((now != was).any() for now, was in zip(after, before, strict=True))


def test_without_weights_it_is_a_forecast_task(tmp_path, monkeypatch):
    settings = {"context_length": CONTEXT, "sampling": HALF, "optimizer": ADAM, "seed": 7}
    settings["scheduler"] = partial(DelayedStepLR, start=1, every=1)
    model = task(lp_weight=0.0, gan_weight=0.0, **settings)
    other = ForecastTask(predictor(), **settings)
    other.predictor.load_state_dict(model.predictor.state_dict())
    monkeypatch.setattr(Discriminator, "forward", None)  # cannot run
    before = [weight.clone() for weight in model.discriminator.parameters()]
    losses = {each: Losses() for each in (model, other)}
    for each, seen in losses.items():
        trainer(tmp_path, max_steps=STEPS, callbacks=[seen]).fit(each, data())
    assert losses[model].values == losses[other].values
    for name, weight in other.predictor.state_dict().items():
        assert torch.equal(model.predictor.state_dict()[name], weight)
    assert all(map(torch.equal, model.discriminator.parameters(), before))


def test_the_penalty_of_the_units_is_in_the_loss(tmp_path):
    unit = zoo.predrnnv2(hidden_channels=4, layers=2, decoupling=0.5)
    model, logged = task(predictor=unit), Logged()
    trainer(tmp_path, max_steps=1, callbacks=[logged]).fit(model, data())
    (terms,) = logged.values
    without = terms["train_mse"] + 0.3 * terms["train_lp"] + 0.2 * terms["train_gan"]
    assert 0.001 < terms["train_loss"] - without < 0.5


class Rates(Callback):
    def __init__(self):
        self.values: list[tuple[float, ...]] = []

    def on_train_batch_end(self, trainer, *_: Any):
        self.values.append(tuple(x.param_groups[0]["lr"] for x in trainer.optimizers))


def test_each_optimizer_has_its_own_schedule(tmp_path):
    model, rates = (
        task(
            scheduler=partial(DelayedStepLR, start=2, every=2, factor=0.5),
            discriminator_scheduler=partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.1),
        ),
        Rates(),
    )
    trainer(tmp_path, max_steps=4, callbacks=[rates]).fit(model, data())
    schedule = [(0.01, 0.002), (0.005, 2e-4), (0.005, 2e-5), (0.0025, 2e-6)]
    assert rates.values == [pytest.approx(pair) for pair in schedule]


def test_plateau_schedules_watch_the_validation(tmp_path):
    plateau = partial(
        torch.optim.lr_scheduler.ReduceLROnPlateau, patience=0, threshold=1e6, threshold_mode="abs"
    )
    model = task(scheduler=plateau)
    fit = trainer(tmp_path, max_epochs=3, limit_train_batches=1)
    fit.fit(model, data())
    rates = [optimizer.param_groups[0]["lr"] for optimizer in fit.optimizers]
    assert rates == pytest.approx([0.01 * 0.1**2, 0.02])


def test_both_gradients_are_clipped(tmp_path):
    sgd = partial(torch.optim.SGD, lr=1.0)
    model = task(optimizer=sgd, discriminator_optimizer=sgd, gradient_clip_val=1e-3)
    parts = [list(part.parameters()) for part in (model.predictor, model.discriminator)]
    before = [[weight.detach().clone() for weight in part] for part in parts]
    trainer(tmp_path, max_steps=1).fit(model, data())
    for now, was in zip(parts, before, strict=True):
        changes = [a - b for a, b in zip(now, was, strict=True)]
        norm = torch.nn.utils.get_total_norm(changes).item()
        assert norm == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "bf16-true"])
def test_every_precision_trains_and_tests(tmp_path, precision):
    model, logged = task(), Logged()
    fit = trainer(tmp_path, max_steps=2, precision=precision, callbacks=[logged])
    fit.fit(model, data())
    fit.test(model, data(), verbose=False)
    assert all(math.isfinite(value) for terms in logged.values for value in terms.values())
    assert all(values.isfinite().all() for values in model.results["model"].values())
    if precision == "bf16-mixed":
        assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("part", "says"), [("predictor", "the loss"), ("discriminator", "the discriminator's loss")]
)
def test_a_loss_that_is_not_finite_stops_before_it_does_harm(tmp_path, part, says):
    model = task()

    class Break(Callback):
        def on_train_batch_start(self, trainer, *_: Any):
            if trainer.global_step == 5:
                next(getattr(model, part).parameters()).data.fill_(math.nan)
                self.state = {name: x.clone() for name, x in model.state_dict().items()}

    broken = Break()
    fit = trainer(tmp_path, max_steps=20, limit_val_batches=0, callbacks=[broken])
    message = rf"^{says} is nan at step 5, batch 1 of epoch 1: [^\n]*$"
    with pytest.raises(FloatingPointError, match=message):
        fit.fit(model, data(epoch_size=8))
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, broken.state[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["accumulate_grad_batches", "gradient_clip_val"])
def test_what_is_for_the_task_is_refused_of_the_trainer(tmp_path, name):
    wrong: Any = {name: 2}
    with pytest.raises(ValueError, match=f"^{name}=2 .*: --model.{name} 2 instead") as raised:
        trainer(tmp_path, max_steps=1, **wrong).fit(task(), data())
    assert "\n" not in str(raised.value)
    trainer(tmp_path, limit_test_batches=1, **wrong).test(task(), data(), verbose=False)


def test_a_strategy_that_waits_for_both_networks_is_refused(tmp_path):
    fit, model = trainer(tmp_path, strategy=DDPStrategy()), task()
    model._trainer = fit
    with pytest.raises(ValueError, match=r"^strategy=ddp waits .*: use vidpred\.tasks\.StepDDP"):
        model.on_fit_start()
    model._trainer = trainer(tmp_path, strategy="ddp_find_unused_parameters_true")
    model.on_fit_start()


@pytest.mark.parametrize("which", ["optimizer", "discriminator_optimizer"])
def test_an_optimiser_that_takes_the_loss_several_times_is_refused(tmp_path, which):
    with pytest.raises(ValueError, match=r"^LBFGS takes a loss several times .*: choose another"):
        trainer(tmp_path, max_steps=1).fit(task(**{which: torch.optim.LBFGS}), data())


@pytest.mark.parametrize("again", ["the same", "another number", "another task"])
def test_a_trainer_can_be_used_again_after_a_fit_that_failed(tmp_path, again):
    class Fail(Callback):
        failed = False

        def on_train_batch_end(self, *_: Any) -> None:
            if not self.failed:
                self.failed = True
                raise RuntimeError("failed")

    model = task(accumulate_grad_batches=2)
    fit = trainer(tmp_path, max_epochs=1, callbacks=[Fail()])
    with pytest.raises(RuntimeError, match="failed"):
        fit.fit(model, data())
    if again == "another number":
        model = task(accumulate_grad_batches=4)
    elif again == "another task":
        model = ForecastTask(predictor(), context_length=CONTEXT)
    fit.fit(model, data(epoch_size=8))
    assert fit.global_step == {"the same": 2, "another number": 1, "another task": 4}[again]


@pytest.mark.parametrize("growth_interval", [1, 3, 4])
def test_gradients_of_float16_are_unscaled_together(tmp_path, growth_interval):
    """As it grows, the scale changes with steps of the discriminator, of the predictor, or both."""

    class Float32(MixedPrecision):  # so that nothing but the scale can make a difference
        def autocast_context_manager(self):
            return nullcontext()

    class Gradients(Callback):
        def __init__(self):
            self.seen: list[torch.Tensor] = []

        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            self.seen += [p.grad.clone() for g in optimizer.param_groups for p in g["params"]]

    def gradients(**arguments: Any) -> list[torch.Tensor]:
        torch.manual_seed(0)
        found, model = Gradients(), task(accumulate_grad_batches=2)
        fit = trainer(tmp_path, max_steps=4, callbacks=[found], **arguments)
        fit.fit(model, data(epoch_size=8))
        return found.seen

    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=growth_interval)
    scaled = gradients(plugins=[Float32("16-mixed", "cpu", scaler)])
    assert scaler.get_scale() > 1024
    for found, expected in zip(scaled, gradients(), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lp_weight": -0.1}, "0 or more, got lp_weight=-0.1 and gan_weight=0.2"),
        ({"gan_weight": -1.0}, "0 or more, got lp_weight=0.3 and gan_weight=-1.0"),
        ({"accumulate_grad_batches": 0}, "at least 1 batch .* accumulate_grad_batches=0"),
        ({"discriminator": Discriminator(3)}, r"of 3 channel\(s\), the predictor for 1"),
        ({"context_length": 0}, "at least 1 known frame, got 0"),
    ],
)
def test_what_it_refuses(options, says):
    with pytest.raises(ValueError, match=says):
        task(**options)


def test_a_checkpoint_of_another_optimiser_is_refused(tmp_path):
    fit = trainer(tmp_path, max_steps=1)
    fit.fit(task(), data())
    fit.save_checkpoint(tmp_path / "adam.ckpt")
    other = task(discriminator_optimizer=partial(torch.optim.RMSprop, lr=1e-3))
    message = "trained with Adam and Adam, this run has Adam and RMSprop"
    with pytest.raises(ValueError, match=message):
        trainer(tmp_path, max_steps=2).fit(
            other, data(), ckpt_path=tmp_path / "adam.ckpt", weights_only=True
        )


FROZEN = partial(torch.optim.SGD, lr=0.0)


def averages(folder, **arguments):
    """What is logged in the first and in the last steps of a short training."""
    logged = Logged()
    fit = trainer(folder, max_steps=40, limit_val_batches=0, callbacks=[logged])
    fit.fit(task(**arguments), data(digits=1, batch_size=4, epoch_size=40))
    for part in (logged.values[:4], logged.values[-4:]):
        yield {name: sum(x[name] for x in part) / 4 for name in part[0]}


def test_the_discriminator_learns_to_tell(tmp_path):
    first, last = averages(tmp_path, optimizer=FROZEN)
    assert last["d_loss"] < 0.5 * first["d_loss"]
    assert last["d_real"] - last["d_fake"] > 0.5


def test_the_predictor_learns_to_pass_for_real(tmp_path):
    first, last = averages(tmp_path, discriminator_optimizer=FROZEN, gan_weight=1.0)
    assert last["d_fake"] - first["d_fake"] > 0.1
    assert last["train_gan"] < first["train_gan"] - 0.1


def test_the_predictor_learns_to_predict_against_one_that_learns_too(tmp_path):
    first, last = averages(tmp_path, lp_weight=0.01, gan_weight=0.001)
    assert last["train_mse"] < 0.5 * first["train_mse"]
