"""What two processes of an adversarial training send each other for a batch, by strategy.

Every all-reduce of the first process is counted, as it enters it: gradients apart from the rest,
which is what is logged. Of DistributedDataParallel's own, those that find unused parameters, a
number per parameter, are not seen here.

    torchrun --standalone --nproc_per_node 2 benchmarks/traffic.py
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from typing import Any

import torch
from common import machine, table
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import distributed
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from vidpred.models import Discriminator, zoo
from vidpred.tasks import AdversarialTask, StepDDPStrategy

DDP = "ddp_find_unused_parameters_true"
BATCHES = 3
_all_reduce = distributed.all_reduce


class Count(Callback):
    """Counts what is reduced in the last batch: the first ones set up."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        if isinstance(trainer.strategy.model, DistributedDataParallel):
            # Its own all-reduces are out of reach of Python; this hook does the same.
            trainer.strategy.model.register_comm_hook(None, default_hooks.allreduce_hook)
        distributed.all_reduce = self._counted

    def on_train_batch_start(self, *_: Any) -> None:
        self.bytes.clear()
        self.calls.clear()

    def on_train_end(self, *_: Any) -> None:
        distributed.all_reduce = _all_reduce

    def _counted(self, tensor: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        kind = "gradients" if tensor.numel() > 1 else "logged"
        self.bytes[kind] += tensor.nbytes
        self.calls[kind] += 1
        return _all_reduce(tensor, *arguments, **options)


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    rows = []
    for name, strategy in {DDP: DDP, "StepDDPStrategy": StepDDPStrategy()}.items():
        seed_everything(0, verbose=False)
        predictor, discriminator = zoo.stau(1, 64, layers=4), Discriminator(1, downsamplings=4)
        count = Count()
        trainer = Trainer(
            accelerator="cpu",
            devices=2,
            strategy=strategy,
            max_steps=BATCHES,
            callbacks=[count],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        clips: Any = torch.rand(2 * BATCHES, 1, 3, 1, 16, 16)
        task = AdversarialTask(predictor, discriminator, context_length=2)
        trainer.fit(task, DataLoader(clips, batch_size=None))
        weights = sum(x.nbytes for x in task.parameters())
        rows.append(
            {
                "strategy": name,
                "weights (MB)": f"{weights / 1e6:.2f}",
                "gradients sent (MB)": f"{count.bytes['gradients'] / 1e6:.2f}",
                "in all-reduces": str(count.calls["gradients"]),
                "logged (B)": str(count.bytes["logged"]),
            }
        )
    if distributed.get_rank() == 0:
        print(machine())
        print(table(rows))


if __name__ == "__main__":
    main()
