"""Training of a predictor against a discriminator that learns to tell its frames from true ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vidpred.losses import discriminator_loss, gan_loss, lp_loss
from vidpred.models import Discriminator, Predictor
from vidpred.tasks.forecast import ForecastTask
from vidpred.tasks.schedule import DelayedStepLR
from vidpred.tasks.strategy import shard


class AdversarialTask(ForecastTask):
    r"""Trains a predictor for frames that are not only near the truth but also look real.

    .. math::
        L(D) &= L_{GAN}(D) \\
        L(P) &= L_{MSE} + \gamma_1 L_{LP} + \gamma_2 L_{GAN}(P)

    For every batch the predictor runs once; first the discriminator takes a step, to tell its
    frames from the true ones, then the predictor, against that discriminator. All of
    :class:`ForecastTask` holds here too: sampling, penalties, validation, test, exact resume.
    A step is one of both: ``max_steps``, schedules, sampling and the names of checkpoints count
    these. With both weights 0 the discriminator does not run at all.

    Beside ``train_loss`` its terms ``train_mse``, ``train_lp`` and ``train_gan`` are logged, and of
    the discriminator before its step: its loss, ``d_loss``; the mean probabilities of being real
    that it gives to true and to predicted frames, ``d_real`` and ``d_fake``; the means of their
    logarithms, ``log_d_real`` and ``log_d_fake``. It should neither win for good, with
    probabilities of 1 and 0, nor give up, with 1/2 for both.

    The Trainer's ``gradient_clip_val`` and ``accumulate_grad_batches`` are for tasks of one
    optimiser: give them to the task.

    Args:
        predictor: Any predictor.
        discriminator: Of frames of that predictor.
        lp_weight: The weight of the LP-loss; 0.01 for UCF Sports and Human3.6M, 0.005 for SJTU4K.
        gan_weight: That of the adversarial loss; 0.001 and 0.0005.
        discriminator_optimizer: Makes the discriminator's optimiser from its parameters.
        discriminator_scheduler: Makes its schedule, which advances as the predictor's does.
        gradient_clip_val: Largest norm of the gradient, of the predictor's and of the
            discriminator's; ``None`` for any.
        accumulate_grad_batches: Batches that make one step. Of these, all but the last see the
            discriminator as it was before its step.
        **arguments: As for :class:`ForecastTask`.

    Raises:
        ValueError: A weight is negative, ``gradient_clip_val`` not above 0,
            ``accumulate_grad_batches`` below 1, or the channels of both models differ; and as
            :class:`ForecastTask`. While training: a strategy that waits for all gradients at once.
        FloatingPointError: While training: a loss of either that is not finite.

    Reference:
        Chang et al., STIP, arXiv:2206.04381, Algorithm 1; its Eq. 9 has the weights swapped.

    Example:
        >>> from vidpred.models import zoo
        >>> predictor = zoo.iprnn(in_channels=3, hidden_channels=4, layers=1)
        >>> task = AdversarialTask(predictor, Discriminator(3), gan_weight=0.002, context_length=4)
    """

    def __init__(
        self,
        predictor: Predictor,
        discriminator: Discriminator,
        lp_weight: float = 0.01,
        gan_weight: float = 0.001,
        discriminator_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = lambda params: (
            torch.optim.Adam(params, lr=5e-4)
        ),
        discriminator_scheduler: Callable[[Optimizer], LRScheduler] | None = DelayedStepLR,
        gradient_clip_val: float | None = None,
        accumulate_grad_batches: int = 1,
        **arguments: Any,
    ) -> None:
        super().__init__(predictor, **arguments)
        if discriminator.in_channels != predictor.in_channels:
            raise ValueError(
                f"the discriminator is for frames of {discriminator.in_channels} channel(s), the "
                f"predictor for {predictor.in_channels}: give both the same in_channels"
            )
        if lp_weight < 0 or gan_weight < 0:
            raise ValueError(
                f"weights of losses are 0 or more, got lp_weight={lp_weight} and "
                f"gan_weight={gan_weight}"
            )
        if gradient_clip_val is not None and not gradient_clip_val > 0:
            raise ValueError(
                "gradient_clip_val is a norm above 0, or None for any gradient, got "
                f"{gradient_clip_val}"
            )
        if accumulate_grad_batches < 1:
            raise ValueError(
                f"at least 1 batch makes a step, got accumulate_grad_batches="
                f"{accumulate_grad_batches}"
            )
        self.automatic_optimization = False
        self.discriminator = discriminator
        self.lp_weight = lp_weight
        self.gan_weight = gan_weight
        self.discriminator_optimizer = discriminator_optimizer
        self.discriminator_scheduler = discriminator_scheduler
        self.gradient_clip_val = gradient_clip_val
        self.accumulate_grad_batches = accumulate_grad_batches

    @property
    def adversarial(self) -> bool:
        """Whether the discriminator takes part."""
        return self.lp_weight > 0 or self.gan_weight > 0

    def configure_model(self) -> None:
        super().configure_model()
        if self.device_mesh is not None:
            shard(self.discriminator, self.device_mesh)

    def _make_optimizers(self) -> list[Optimizer]:
        discriminators = self.discriminator_optimizer(self.discriminator.parameters())
        return [*super()._make_optimizers(), discriminators]

    def configure_optimizers(self) -> Any:
        optimizers = self._make_optimizers()
        if any(isinstance(optimizer, LBFGS) for optimizer in optimizers):
            raise ValueError(
                "LBFGS takes a loss several times in a step, which two networks that take turns do "
                "not allow: choose another optimizer"
            )
        pairs = zip(optimizers, (self.scheduler, self.discriminator_scheduler), strict=True)
        return optimizers, [make(optimizer) for optimizer, make in pairs if make]

    def configure_callbacks(self) -> list[Any]:
        # The only hook before the Trainer refuses them itself, with advice that is of no use here.
        for name, unset in (("gradient_clip_val", 0), ("accumulate_grad_batches", 1)):
            value = getattr(self.trainer, name) or unset
            if self.trainer.training and value != unset:
                raise ValueError(
                    f"{name}={value} is for the task, which has two optimisers, not for the "
                    f"Trainer: --model.{name} {value} instead of --trainer.{name} {value}"
                )
        return [_Forget()]

    def on_fit_start(self) -> None:
        strategy = self.trainer.strategy
        if type(strategy) is DDPStrategy and not strategy._ddp_kwargs.get("find_unused_parameters"):
            raise ValueError(
                "strategy=ddp waits for the gradients of both networks in either's step: use "
                "vidpred.tasks.StepDDPStrategy, or ddp_find_unused_parameters_true"
            )
        # Refused as an argument of the Trainer, it still tells its loops which batches make a step.
        self.trainer.accumulate_grad_batches = self.accumulate_grad_batches

    def on_fit_end(self) -> None:
        self.trainer.accumulate_grad_batches = 1

    def training_step(self, frames: Tensor, batch_idx: int) -> Tensor:
        keep = self._draw_keep(frames, batch_idx)
        predicted, error, penalty = self._rollout(frames, keep)
        truth, loss, terms = frames[:, 1:], error + penalty, {"train_mse": error}
        optimizers: Any = self.optimizers()
        optimizer, discriminator_optimizer = optimizers
        if self.adversarial:
            self._check_finite(loss, batch_idx)  # or the discriminator would learn from it
            with self.toggled_optimizer(discriminator_optimizer):
                terms |= self._tell_apart(truth, predicted.detach())
                self._backward(terms["d_loss"], batch_idx, "the discriminator's loss")
                if self._makes_a_step(batch_idx):
                    self._step_discriminator(discriminator_optimizer.optimizer)
        with self.toggled_optimizer(optimizer):
            if self.adversarial:
                terms |= self._judge(truth, predicted)
                loss = loss + self.lp_weight * terms["train_lp"]
                loss = loss + self.gan_weight * terms["train_gan"]
            self._backward(loss, batch_idx)
            if self._makes_a_step(batch_idx):
                optimizer.step()
                self._finish_step(optimizer.optimizer)
        self.log("train_loss", loss, prog_bar=True, sync_dist=True)
        self.log_dict(terms, sync_dist=True)
        return loss

    def _step_discriminator(self, optimizer: Optimizer) -> None:
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)  # of 16-mixed
        scale = scaler.get_scale() if scaler else 1.0
        # Not by its own step(), which the Trainer would count as one of the training.
        self.trainer.strategy.optimizer_step(optimizer, lambda: None, model=self)
        self._finish_step(optimizer)
        if scaler and (change := scaler.get_scale() / scale) != 1:
            # The predictor's gradients of earlier batches are to be unscaled with the new scale.
            for parameter in self.predictor.parameters():
                if parameter.grad is not None:
                    parameter.grad *= change

    def _tell_apart(self, truth: Tensor, predicted: Tensor) -> dict[str, Tensor]:
        """The discriminator's loss, and how sure it is."""
        real, _ = self.discriminator(truth)
        fake, _ = self.discriminator(predicted)
        return {
            "d_loss": discriminator_loss(real, fake),
            "d_real": real.sigmoid().mean(),
            "d_fake": fake.sigmoid().mean(),
            "log_d_real": F.logsigmoid(real).mean(),
            "log_d_fake": F.logsigmoid(fake).mean(),
        }

    def _judge(self, truth: Tensor, predicted: Tensor) -> dict[str, Tensor]:
        """What the discriminator makes of predictions, for the predictor to improve."""
        with torch.no_grad():
            _, real = self.discriminator(truth)
        logits, fake = self.discriminator(predicted)
        return {"train_lp": lp_loss(real, fake), "train_gan": gan_loss(logits)}

    def _makes_a_step(self, batch_idx: int) -> bool:
        last = self.trainer.is_last_batch  # of an epoch, which it ends with a step as ever
        return last or (batch_idx + 1) % self.accumulate_grad_batches == 0

    def _backward(self, loss: Tensor, batch_idx: int, name: str = "the loss") -> None:
        self._check_finite(loss, batch_idx, name)
        self.manual_backward(loss / self.accumulate_grad_batches)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.clip_gradients(optimizer, self.gradient_clip_val)

    def _finish_step(self, optimizer: Optimizer) -> None:
        optimizer.zero_grad()
        for scheduler in self._schedules(plateau=False):
            if scheduler.optimizer is optimizer:
                scheduler.step()


class _Forget(Callback):
    """Lets a Trainer be used again after a fit that failed: the task has no hook of its own."""

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        if isinstance(pl_module, AdversarialTask):
            pl_module.on_fit_end()
