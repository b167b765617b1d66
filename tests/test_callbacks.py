from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from PIL import Image
from torch.utils.data import DataLoader

from vidpred.data import MovingMNISTData
from vidpred.models import zoo
from vidpred.tasks import ForecastTask, PredictionPicture, PredictionWriter
from vidpred.tasks.callbacks import run_folder

CONTEXT, LENGTH = 3, 6


def task():
    return ForecastTask(zoo.stau(hidden_channels=4, layers=1), context_length=CONTEXT)


def data():
    return MovingMNISTData(
        length=LENGTH, canvas=32, batch_size=2, epoch_size=8, val_size=3, test_size=5
    )


def trainer(folder, logger, **arguments):
    return Trainer(
        accelerator="cpu",
        logger=logger,
        default_root_dir=folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **arguments,
    )


def fit(folder, logger):
    arguments = {"max_steps": 4, "val_check_interval": 2, "callbacks": [PredictionPicture()]}
    fitting = trainer(folder, logger, **arguments)
    fitting.fit(task(), data())
    return fitting


def test_picture_without_a_logger(tmp_path):
    fitting = fit(tmp_path, logger=False)
    assert run_folder(fitting) == tmp_path
    # None of the sanity check's, one of each validation.
    files = sorted((tmp_path / "pictures").iterdir())
    assert [file.name for file in files] == ["step=000002.png", "step=000004.png"]
    for file in files:
        with Image.open(file) as picture:
            assert min(picture.size) > 300


def test_picture_with_a_logger_that_shows_none(tmp_path):
    fitting = fit(tmp_path, CSVLogger(tmp_path, name="run"))
    assert run_folder(fitting) == tmp_path / "run" / "version_0"
    assert len(list((run_folder(fitting) / "pictures").glob("*.png"))) == 2


def test_picture_in_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fitting = fit(tmp_path, TensorBoardLogger(tmp_path))
    events = EventAccumulator(str(run_folder(fitting)))
    events.Reload()
    pictures = events.Images("prediction")
    assert [picture.step for picture in pictures] == [2, 4]
    assert all(min(p.width, p.height) > 300 for p in pictures)
    assert {"val_mse", "val_psnr", "val_ssim"} <= set(events.Tags()["scalars"])
    assert not (run_folder(fitting) / "pictures").exists()


@pytest.mark.slow
def test_picture_in_wandb_offline(tmp_path):
    logger = WandbLogger(save_dir=tmp_path, project="vidpred", offline=True)
    try:
        fitting = fit(tmp_path, logger)
        assert run_folder(fitting) == tmp_path / "vidpred" / logger.experiment.id
        files = Path(logger.experiment.dir)
        summary = dict(logger.experiment.summary)["prediction"]
    finally:
        logger.experiment.finish()
    assert files.is_relative_to(tmp_path)
    pictures = sorted((files / "media" / "images").glob("prediction_*.png"))
    assert len(pictures) == 2
    assert summary["count"] == 1
    assert not (tmp_path / "pictures").exists()


def test_picture_shows_the_first_clip(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "vidpred.visual.filmstrip", lambda *clip: drawn.append(clip) or pytest.fail("drawn")
    )
    model, source = task(), data()
    with pytest.raises(pytest.fail.Exception, match="drawn"):
        trainer(tmp_path, False, callbacks=[PredictionPicture()]).validate(model, source)
    known, truth, prediction = drawn[0]
    clip = next(iter(source.val_dataloader()))[0] / 255
    torch.testing.assert_close(torch.cat([known, truth]), clip)
    with torch.no_grad():
        forecast = model.predictor(clip[None, :CONTEXT], LENGTH - CONTEXT)[0]
    torch.testing.assert_close(prediction, forecast)


class Silent(ForecastTask):
    def validation_step(self, *arguments):
        super().validation_step(*arguments)


@pytest.mark.parametrize("kind", [ForecastTask, Silent])
def test_what_cannot_be_shown_is_not_drawn(tmp_path, kind):
    model = kind(zoo.stau(in_channels=2, hidden_channels=4, layers=1), context_length=CONTEXT)
    frames: Any = torch.rand(2, LENGTH, 2, 16, 16)
    clips = DataLoader(frames, batch_size=2)
    showing = trainer(tmp_path, False, callbacks=[PredictionPicture(), PredictionWriter()])
    showing.validate(model, clips, verbose=False)
    showing.predict(model, clips)
    assert [file.name for file in tmp_path.iterdir()] == ["predictions"]
    assert [file.name for file in (tmp_path / "predictions").iterdir()] == ["0-00000.npy"]


def test_writer(tmp_path, capsys):
    model, source = task(), data()
    predicting = trainer(tmp_path, False, callbacks=[PredictionWriter()])
    folder = tmp_path / "predictions"
    folder.mkdir()
    for stale in ("0-00003.npy", "1-00000.npy"):  # of a longer run by two processes
        (folder / stale).touch()
    batches: Any = predicting.predict(model, source)
    names = ["0-00000.npy", "0-00001.npy", "0-00002.npy", "prediction.gif", "prediction.png"]
    assert sorted(file.name for file in folder.iterdir()) == names
    for name, batch in zip(names, batches, strict=False):
        array = np.load(folder / name, allow_pickle=False)
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, batch.numpy())
    with Image.open(folder / "prediction.gif") as gif:
        assert gif.n_frames == LENGTH
    assert f"predictions: {folder}" in capsys.readouterr().out
