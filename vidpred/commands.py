"""``vidpred fit | validate | test | predict``: Lightning's command line for our tasks and data."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import (
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from lightning.pytorch.utilities import rank_zero_only

from vidpred import processes
from vidpred.files import read_checkpoint, replacing
from vidpred.tasks.callbacks import PredictionWriter, run_folder


class _Parser(LightningArgumentParser):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        # A misspelt setting is an error, not an abbreviation.
        super().__init__(*arguments, **{**options, "allow_abbrev": False})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise argparse.ArgumentError(None, message) from ex


class _SaveConfig(SaveConfigCallback):
    """Saves the merged configuration of a training to the run's folder.

    Without the checkpoint that it went on from: the file is to make the same run again.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        folder = run_folder(trainer)
        if stage == "fit" and trainer.is_global_zero:
            config = self.config.clone()
            config.ckpt_path = None
            with replacing(folder / "config.yaml") as temporary:
                # By position: jsonargparse renamed the argument that keeps settings of None.
                temporary.write_text(self.parser.dump(config, "yaml", False))


class VidpredCLI(LightningCLI):
    """The commands. Reads its arguments and runs one of them when it is made.

    Args:
        args: The arguments after the program's name.
    """

    def __init__(self, args: Sequence[str]) -> None:
        super().__init__(
            LightningModule,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=_Parser,
            save_config_callback=_SaveConfig,
            seed_everything_default=0,
            # The loaders share samples out among processes themselves.
            trainer_defaults={"use_distributed_sampler": False, "callbacks": [PredictionWriter()]},
            # Task and data carry their own arguments; checkpoints hold tensors and numbers alone.
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=list(args),
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        fixed = {"model", "datamodule", "dataloaders", "weights_only", "verbose"}
        return {
            "fit": {*fixed, "train_dataloaders", "val_dataloaders"},
            "validate": fixed,
            "test": fixed,
            "predict": {*fixed, "return_predictions"},
        }

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parser.parse_args(args)  # Lightning's way warns of any but this process's
        config = self.config[self.config.subcommand]
        checkpoint = config.ckpt_path
        settings = config.get("model.init_args", {})
        predictor = str(settings.get("predictor.class_path"))
        pretrained = predictor.endswith(".from_pretrained") and "classifier" not in settings
        if checkpoint is None and not pretrained and self.config.subcommand != "fit":
            _warn("without --ckpt_path these are the results of untrained weights")
        if checkpoint is not None and checkpoint not in ("best", "last", "hpc"):
            _check_checkpoint(Path(checkpoint))

    def fit(self, **arguments: Any) -> None:
        self._run(self.trainer.fit, **arguments)

    def validate(self, **arguments: Any) -> None:
        self._run(self.trainer.validate, **arguments)

    def test(self, **arguments: Any) -> None:
        self._run(self.trainer.test, **arguments, verbose=False)

    def predict(self, **arguments: Any) -> None:
        self._run(self.trainer.predict, **arguments, return_predictions=False)

    def _run(self, function: Callable[..., Any], **arguments: Any) -> None:
        trainer = self.trainer
        try:
            function(**arguments, weights_only=True)
        except RuntimeError as error:
            if not processes.is_lost(error):
                raise
            last = getattr(trainer.checkpoint_callback, "last_model_path", "")
            advice = f"go on with --ckpt_path {last}" if last else "start again"
            raise processes.lost(error, trainer.global_rank, trainer.world_size, advice) from error


@rank_zero_only
def _warn(message: str) -> None:
    print(f"vidpred: warning: {message}", file=sys.stderr)


def _check_checkpoint(path: Path) -> None:
    """Refuse a missing or damaged file, and one that a run did not write."""
    if path.is_dir() and (path / "meta.pt").is_file():  # a sharded checkpoint
        return
    content = read_checkpoint(path)
    if not isinstance(content, dict) or "pytorch-lightning_version" not in content:
        raise ValueError(f"{path} is no checkpoint of a run; expected a file of its checkpoints/")
