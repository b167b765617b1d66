"""How processes that train together exchange gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.optim import Optimizer


class StepDDPStrategy(DDPStrategy):
    """Data-parallel training that averages gradients at an optimiser's step, and only its own.

    ``DistributedDataParallel`` averages within every backward pass, and every gradient. A task with
    several optimisers runs a backward pass for each: all gradients then travel each time, and the
    passes in between are refused without ``find_unused_parameters``. Here the processes start from
    the weights of the first, each collects its own gradients over as many backward passes as it
    likes, and ``optimizer.step()`` first makes those of that optimiser's parameters the mean over
    the processes, in one all-reduce. What comes after it in a step sees that mean: the unscaling of
    float16 and ``on_before_optimizer_step``, the place to clip by hand. Automatic optimisation
    works likewise.

    A parameter that has no gradient on some processes counts as zero there; one that has none on
    any is left without. Buffers are those of the first process after every step. In exchange for
    less traffic, none of it overlaps with the backward pass.

    Args:
        timeout: How long a process waits for the others before it ends with an error.
        process_group_backend: ``"nccl"``, ``"gloo"``; by default what suits the devices.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> strategy = StepDDPStrategy(timeout=timedelta(minutes=10))
        >>> trainer = Trainer(accelerator="cpu", devices=2, strategy=strategy, logger=False)
    """

    def __init__(
        self,
        timeout: timedelta = timedelta(minutes=30),
        process_group_backend: str | None = None,
    ) -> None:
        super().__init__(timeout=timeout, process_group_backend=process_group_backend)

    def configure_ddp(self) -> None:
        assert self.model is not None
        self._take_from_first([*self.model.parameters(), *self.model.buffers()])

    def optimizer_step(
        self, optimizer: Optimizer, closure: Callable[[], Any], model: Any = None, **options: Any
    ) -> Any:
        def closure_and_mean() -> Any:
            result = closure()
            self._average_gradients(optimizer)
            return result

        result = super().optimizer_step(optimizer, closure_and_mean, model, **options)
        assert self.model is not None
        self._take_from_first(list(self.model.buffers()))
        return result

    def _average_gradients(self, optimizer: Optimizer) -> None:
        groups = optimizer.param_groups
        parameters = [x for group in groups for x in group["params"] if x.requires_grad]
        gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in parameters]
        present = torch.tensor([float(x.grad is not None) for x in parameters])
        present = present.to(self.root_device)
        _together([*gradients, present], self._mean)
        for parameter, gradient, share in zip(parameters, gradients, present, strict=True):
            # `share` is read, which waits for the device, only where there was no gradient.
            if parameter.grad is None and share > 0:
                parameter.grad = gradient

    def _mean(self, flat: Tensor) -> None:
        # First divided: a sum of float16 gradients might overflow.
        distributed.all_reduce(flat.div_(self.world_size))

    @staticmethod
    def _take_from_first(tensors: Sequence[Tensor]) -> None:
        _together(tensors, lambda flat: distributed.broadcast(flat, src=0))


def shard(network: nn.Module, mesh: DeviceMesh, *methods: str) -> None:
    """Split a network's weights, gradients and moments among processes (FSDP2), in place.

    Each process gathers the whole network for a pass over it, once: gathering the parts of a
    recurrent network as they run would do so at every time step.

    Args:
        network: Any module; one that is sharded already is left as it is.
        mesh: Of ``ModelParallelStrategy``.
        *methods: Methods beside ``forward`` that use the weights.

    Raises:
        ValueError: The mesh splits tensors too.
    """
    if mesh["tensor_parallel"].size() > 1:
        raise ValueError(
            "ModelParallelStrategy splits tensors among processes by default, which these models "
            f"do not: give it data_parallel_size={mesh.size()} and tensor_parallel_size=1"
        )
    if not isinstance(network, FSDPModule):
        network.to(memory_format=torch.contiguous_format)  # no other can be sharded
        fully_shard(network, mesh=mesh["data_parallel"])
        for name in methods:
            register_fsdp_forward_method(network, name)


@torch.no_grad()
def _together(tensors: Sequence[Tensor], collective: Callable[[Tensor], Any]) -> None:
    """Run a collective that works in place on all tensors, once per dtype."""
    for dtype in dict.fromkeys(x.dtype for x in tensors):
        same = [x for x in tensors if x.dtype == dtype]
        flat = torch.cat([x.flatten() for x in same])
        collective(flat)
        for x, piece in zip(same, flat.split([x.numel() for x in same]), strict=True):
            x.copy_(piece.view_as(x))
