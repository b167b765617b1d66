"""How near is a training step to what this machine's convolutions can do?

For each precision the script measures the machine's convolution throughput (forward and backward of
the widest convolution of the unit, same dtype, best memory layout) and reports the training step of
a model as a share of it: the time its multiply-adds would take at that throughput, over the time
the step takes. With --reference, the same step of the authors' code (a clone of
github.com/ZhengChang467/STAU) takes turns with ours in the same run.

    python benchmarks/step_time.py --reference ../STAU
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
from common import Step, interleaved, machine, peak_memory, table, training_step, write_rows
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vidpred.models import zoo
from vidpred.tasks import ForecastTask

CONTEXT = 10
MODELS = [  # those of a given width: not those that take a cell, nor CrevNet, whose frames set it
    name
    for name in zoo.__all__
    if "cell" not in (settings := inspect.signature(getattr(zoo, name)).parameters)
    and "hidden_channels" in settings
]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="stau", choices=MODELS)
    parser.add_argument("--hidden", type=int, default=64, help="channels (default: 64)")
    parser.add_argument("--batch", type=int, default=16, help="samples (default: 16)")
    parser.add_argument("--length", type=int, default=20, help="frames of a clip (default: 20)")
    parser.add_argument("--size", type=int, default=64, help="side of a frame (default: 64)")
    parser.add_argument(
        "--eta", type=float, default=1.0, help="probability of feeding a true frame"
    )
    parser.add_argument("--repeats", type=int, default=5, help="measured turns (default: 5)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--reference", type=Path, help="clone of the authors' STAU code")
    parser.add_argument("--output", type=Path, default=Path("runs/step_time"))
    arguments = parser.parse_args()
    if arguments.reference and not (arguments.reference / "core/models/STAU.py").is_file():
        parser.error(f"--reference: {arguments.reference} is no clone of the authors' STAU code")
    if arguments.reference and arguments.model != "stau":
        parser.error(f"--reference is STAU alone: not for --model {arguments.model}")
    if min(arguments.repeats, arguments.threads, arguments.batch, arguments.hidden) < 1:
        parser.error("--repeats, --threads, --batch and --hidden must be at least 1")
    return arguments


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(machine())

    makers: dict[str, Callable[..., Step]] = {"vidpred": our_step}
    if arguments.reference:
        makers["authors"] = their_step
    variants = [(who, precision) for precision in ("fp32", "bf16") for who in makers]
    steps = {pair: makers[pair[0]](arguments, pair[1], device) for pair in variants}
    names = {f"{who} {precision}": steps[who, precision] for who, precision in variants}
    convolutions = {
        f"conv {precision} {layout}": convolution(arguments, precision, layout, device)
        for precision in ("fp32", "bf16")
        for layout in ("contiguous", "channels_last")
    }
    with FlopCounterMode(display=False) as counter:
        steps["vidpred", "fp32"]()
    work = counter.get_total_flops() / 2e9
    with FlopCounterMode(display=False) as counter:
        convolutions["conv fp32 contiguous"]()
    conv_work = counter.get_total_flops() / 2e9

    seconds = interleaved(names | convolutions, arguments.repeats, device)
    throughput = {
        precision: max(
            conv_work / value
            for name, value in seconds.items()
            if name.startswith(f"conv {precision}")
        )
        for precision in ("fp32", "bf16")
    }
    base = seconds.get("authors fp32", seconds["vidpred fp32"])
    rows = []
    for who, precision in variants:
        took = seconds[f"{who} {precision}"]
        memory = peak_memory(once, makers[who], arguments, precision, device, device=device)
        rows.append(
            {
                "step": f"{who} {precision}",
                "seconds": took,
                "speed-up": base / took,
                "conv GMAC/s": throughput[precision],
                "share of conv": work / throughput[precision] / took,
                "peak GB": memory,
            }
        )
    who = "the authors'" if arguments.reference else "our"
    print(f"{work:.0f} GMAC a step; speed-up against {who} fp32 step")
    print(table(rows))
    write_rows(rows, arguments.output / "step_time.csv")


def once(
    maker: Callable[..., Step], arguments: argparse.Namespace, precision: str, device: str
) -> None:
    """Two steps in a process of their own, for its peak memory."""
    torch.set_num_threads(arguments.threads)
    step = maker(arguments, precision, device)
    step()
    step()


def our_step(arguments: argparse.Namespace, precision: str, device: str) -> Step:
    torch.manual_seed(0)
    make = getattr(zoo, arguments.model)
    predictor = make(in_channels=1, hidden_channels=arguments.hidden).to(device)
    frames, keep = clip(arguments)
    task, frames = ForecastTask(predictor), frames.to(device)
    return training_step(predictor, lambda: task.loss(frames, keep), precision, device)


def their_step(arguments: argparse.Namespace, precision: str, device: str) -> Step:
    torch.manual_seed(0)
    sys.path.insert(0, str(arguments.reference))
    model = importlib.import_module("core.models.STAU").RNN
    layers = 4
    settings = SimpleNamespace(
        patch_size=1, img_channel=1, img_width=arguments.size, img_height=arguments.size, sr_size=4,
        filter_size=(5, 5), stride=1, tau=5, cell_mode="normal", model_mode="normal", device=device,
        input_length=CONTEXT, total_length=arguments.length,
    )  # fmt: skip
    predictor = model(layers, [arguments.hidden] * layers, settings).to(device)
    frames, keep = clip(arguments)
    # Their mask covers the frames after the context, channels last.
    mask = keep[:, CONTEXT:, None, None, None].float()
    mask = mask.expand(-1, -1, arguments.size, arguments.size, 1).to(device)
    frames = frames.to(device)

    def loss() -> Tensor:
        return F.mse_loss(predictor(frames, mask).float(), frames[:, 1:])

    return training_step(predictor, loss, precision, device)


def clip(arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (arguments.batch, arguments.length, 1, arguments.size, arguments.size)
    frames = torch.rand(shape, generator=generator)
    keep = torch.rand(arguments.batch, arguments.length - 1, generator=generator) < arguments.eta
    keep[:, :CONTEXT] = True
    return frames, keep


def convolution(arguments: argparse.Namespace, precision: str, layout: str, device: str) -> Step:
    """Forward and backward of the unit's widest convolution: three gates, 5x5."""
    memory_format = getattr(torch, f"{layout}_format" if layout == "contiguous" else layout)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    conv = nn.Conv2d(
        arguments.hidden, 3 * arguments.hidden, 5, padding=2, device=device, dtype=dtype
    )
    conv.weight.data = conv.weight.data.contiguous(memory_format=memory_format)
    side = arguments.size // 4
    x = torch.randn(arguments.batch, arguments.hidden, side, side, device=device, dtype=dtype)
    x = x.contiguous(memory_format=memory_format).requires_grad_()
    gradient = torch.ones_like(conv(x))

    def step() -> None:
        conv(x).backward(gradient)

    return step


if __name__ == "__main__":
    main()
