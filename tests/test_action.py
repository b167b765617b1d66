"""Early action recognition: what the classifier sees, how it is trained and how it is scored."""

import csv
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command import succeed
from lightning.pytorch.callbacks import ModelCheckpoint
from processes import in_two_processes
from test_forecast import trainer
from test_resume import Interrupt, Interruption, assert_same
from test_zoo import FREE_RUNNING, MODELS
from torch.utils.data import DataLoader, TensorDataset, random_split
from videos import write

from vidpred import cli, weights
from vidpred.data import VideoData, prepare, sources
from vidpred.models import ActionClassifier, Predictor, hidden_states, zoo
from vidpred.tasks import ActionTask, ForecastTask

EXAMPLES = Path(__file__).parents[1] / "examples" / "action"
CONTEXT, LENGTH, CLASSES = 2, 5, 6
ADAM = partial(torch.optim.Adam, lr=0.01)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def predictor() -> Predictor:
    return zoo.stau(hidden_channels=4, layers=2)


def classifier(channels=4, classes=CLASSES, **arguments: Any) -> ActionClassifier:
    return ActionClassifier(channels, classes, **{"hidden_channels": 8} | arguments)


def task(**arguments: Any) -> ActionTask:
    made = {"context_length": CONTEXT, "optimizer": ADAM}
    if "predictor" not in arguments:
        made["predictor"] = predictor()
    if "classifier" not in arguments:
        made["classifier"] = classifier()
    return ActionTask(**made | arguments)


class Bars(VideoData):
    """A bar that moves to the right by a pixel a frame, and is as wide as its label says."""

    def __init__(self, clips: int = 12, batch_size: int = 4, num_workers: int = 0):
        super().__init__(batch_size, num_workers)
        frames = torch.zeros(clips, LENGTH, 1, 16, 16)
        labels = torch.arange(clips) % CLASSES
        for number, frame in enumerate(frames):
            for t, picture in enumerate(frame):
                first = number // CLASSES + t
                picture[:, 5:9, first : first + 2 * int(labels[number]) + 1] = 1
        self.clips = TensorDataset((255 * frames).byte(), labels)

    def setup(self, stage=None):
        self.train_set = self.val_set = self.test_set = self.clips


@pytest.mark.parametrize("name", [*MODELS, *FREE_RUNNING])
def test_hidden_states_of_every_model(name):
    make: Any = {**MODELS, **FREE_RUNNING}[name]
    sizes = {"layers": 2} if name in MODELS else {}
    widths = {"frnn": (8,) * 8, "trajgru": (8,) * 3, "mim": 8}
    model = make(hidden_channels=widths.get(name, 8), **sizes)
    states = hidden_states(model, torch.rand(2, 3, 1, 32, 32), horizon=2)
    assert states.shape[:2] == (2, 4)
    assert states.dim() == 5
    assert torch.isfinite(states).all()
    # They are what the predictions are made of: a gradient of theirs reaches the core.
    states.square().mean().backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in model.core.parameters())


def test_hidden_states_are_those_of_a_forecast():
    model, clip = predictor(), torch.rand(2, LENGTH, 1, 18, 16)
    known = clip[:, :CONTEXT]
    seen = []
    model.core.register_forward_hook(lambda core, inputs, outputs: seen.append(outputs[0]))
    forecast = model(known, LENGTH - CONTEXT)
    expected, seen[:] = torch.stack(seen, dim=1), []
    states = hidden_states(model, known, LENGTH - CONTEXT)
    torch.testing.assert_close(states, expected, rtol=0, atol=0)
    # The last of them makes the last frame.
    frame = model.decoder(states[:, -1], [])[..., :18, :16]
    torch.testing.assert_close(frame, forecast[:, -1], rtol=0, atol=0)
    assert not model.decoder._forward_pre_hooks  # nothing stays on the model


def test_hidden_states_of_volumes_have_the_depth_in_the_channels():
    model = zoo.stam(hidden_channels=4, layers=2, depth=2)
    assert hidden_states(model, torch.rand(1, 2, 1, 16, 16), 2).shape == (1, 3, 8, 4, 4)


@pytest.mark.parametrize("remat", [1, "cells"])
def test_recomputed_hidden_states_have_the_same_gradients(remat):
    known = torch.rand(2, CONTEXT, 1, 16, 16)

    def gradients(remat):
        torch.manual_seed(0)
        model = predictor()
        model.remat = remat
        hidden_states(model, known, 3).square().mean().backward()
        return [weight.grad for weight in model.core.parameters()]

    for found, expected in zip(gradients(remat), gradients(None), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("frames", "horizon", "message"),
    [
        ((1, 2, 1, 16, 16), 0, "horizon must be at least 1"),
        ((1, 2, 3, 16, 16), 2, "built for 1 channel"),
        ((2, 1, 16, 16), 2, "must be .B, T, C, H, W."),
    ],
)
def test_hidden_states_of_something_else(frames, horizon, message):
    with pytest.raises(ValueError, match=message):
        hidden_states(predictor(), torch.rand(frames), horizon)


@pytest.mark.parametrize("shape", [(2, 1, 4, 1, 1), (1, 19, 4, 16, 16), (3, 6, 4, 9, 20)])
def test_classifier_sees_maps_of_any_length_and_size(shape):
    model = classifier()
    logits = model(torch.rand(shape))
    assert logits.shape == (shape[0], CLASSES)
    logits.square().sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_classifier_sees_each_sample_by_itself_and_the_order_of_time():
    model, maps = classifier().double(), torch.rand(3, 5, 4, 8, 8, dtype=torch.float64)
    together = model(maps)
    torch.testing.assert_close(together[1:2], model(maps[1:2]), rtol=0, atol=1e-12)
    assert (together - model(maps.flip(1))).abs().min() > 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 0}, "channel"),
        ({"classes": 1}, "at least 2 classes"),
        ({"downsamplings": 0}, "1 downsampling"),
        ({"hidden_channels": 4}, "multiple of 4 from 8 on, got 4"),
    ],
)
def test_classifier_of_nothing(arguments, message):
    with pytest.raises(ValueError, match=message):
        classifier(**arguments)


def test_the_front_alone_is_looked_at():
    for model in (task(), task(predictor=None, classifier=classifier(1))):
        clip = torch.rand(2, LENGTH, 1, 16, 16)
        other = torch.cat([clip[:, :CONTEXT], torch.rand(2, 3, 1, 16, 16)], dim=1)
        assert torch.equal(model(clip), model(other))
        assert not torch.equal(model(clip), model(clip.flip(1)))


def test_the_baseline_sees_frames_and_the_others_the_hidden_states():
    clip = torch.rand(2, LENGTH, 1, 16, 16)
    baseline = task(predictor=None, classifier=classifier(1))
    assert torch.equal(baseline(clip), baseline.classifier(clip[:, :CONTEXT]))
    model = task()
    assert model.predictor is not None
    states = hidden_states(model.predictor, clip[:, :CONTEXT], LENGTH - CONTEXT)
    assert states.shape[1] == LENGTH - 1
    assert torch.equal(model(clip), model.classifier(states))


def test_it_learns(tmp_path):
    model = task(predictor=None, classifier=classifier(1), optimizer=ADAM)
    fit = trainer(tmp_path, max_epochs=40, check_val_every_n_epoch=40)
    fit.fit(model, Bars())
    assert model.results["top1"] == 1
    assert fit.callback_metrics["val_loss"] < 0.3  # log(6) = 1.8 to begin with


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_predictor_stays_as_it_is(tmp_path, frozen):
    model = task(frozen=frozen)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    fit = trainer(tmp_path, max_steps=3, limit_val_batches=0)
    fit.fit(model, Bars())
    for name, weight in model.state_dict().items():
        stays = frozen and name.startswith("predictor.")
        assert torch.equal(weight, before[name]) == stays, name
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    assert len(fit.optimizers[0].state_dict()["state"]) == len(trained)


def test_scores_are_those_of_all_clips(tmp_path, capsys):
    model, data = task(), Bars(clips=11)
    frames, labels = data.clips.tensors
    with torch.no_grad():
        logits = model(frames / 255)
    ranks = (logits > logits.gather(1, labels[:, None])).sum(dim=1)
    expected = {
        "loss": torch.nn.functional.cross_entropy(logits, labels).item(),
        "top1": (ranks < 1).float().mean().item(),
        "top5": (ranks < 5).float().mean().item(),
    }
    assert 0 < expected["top1"] < expected["top5"] < 1
    fit = trainer(tmp_path)
    fit.test(model, data, verbose=False)
    assert model.results == pytest.approx(expected, rel=1e-5)
    for name, value in expected.items():
        assert fit.callback_metrics[f"test_{name}"].item() == pytest.approx(value, rel=1e-5)
    with (tmp_path / "test.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert {name: float(value) for name, value in row.items()} == model.results
    assert f"top5 {expected['top5']:.4f}" in capsys.readouterr().out


def test_the_clips_of_several_loaders_are_scored_together(tmp_path):
    model, (frames, labels), found = task(), Bars().clips.tensors, []
    for sizes in ((5, 7), (12,)):
        parts = random_split(TensorDataset(frames / 255, labels), sizes)
        loaders = [DataLoader(part, 4) for part in parts]
        for stage in ("validate", "test"):
            getattr(trainer(tmp_path), stage)(model, loaders, verbose=False)
            found.append(model.results)
    for results in found[1:]:
        assert results == pytest.approx(found[0], rel=1e-5)


def test_with_fewer_classes_than_five_all_are_among_the_first(tmp_path):
    model, data = task(classifier=classifier(classes=3)), Bars()
    frames, labels = data.clips.tensors
    data.clips = TensorDataset(frames, labels % 3)
    trainer(tmp_path).validate(model, data, verbose=False)
    assert model.results["top5"] == 1


def test_accuracies_of_what_is_not_finite_are_none(tmp_path):
    model, data = task(), Bars()
    model.eval()
    forward = model.forward
    first = iter([torch.nan])  # one batch is enough
    model.forward = lambda frames: forward(frames) * next(first, 1.0)
    with pytest.raises(FloatingPointError, match="not finite in the validation at step 0"):
        trainer(tmp_path).validate(model, data, verbose=False)
    assert all(map(math.isnan, model.results.values()))


def test_predictions_are_probabilities(tmp_path):
    model, data = task(), Bars()
    batches: Any = trainer(tmp_path).predict(model, data)
    found = torch.cat(batches)
    assert found.shape == (12, CLASSES)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(12))
    clips = data.clips.tensors[0] / 255
    assert torch.allclose(model.predict_step(clips, 0), found, atol=1e-6)


def test_bfloat16_keeps_weights_in_float32(tmp_path):
    model = task(frozen=False)
    trainer(tmp_path, max_steps=2, precision="bf16-mixed").fit(model, Bars())
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert all(weight.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize(
    ("batch", "kind", "message"),
    [
        (torch.rand(2, 5, 1, 16, 16), TypeError, "a batch is .frames, labels., got Tensor"),
        ((torch.rand(2, 5, 1, 16, 16), torch.tensor([0, 6])), ValueError, "between 0 and 5, got 0"),
        ((torch.rand(2, 5, 1, 16, 16), torch.tensor([-1, 2])), ValueError, "got -1 to 2"),
        ((torch.rand(2, 5, 1, 16, 16), torch.ones(2, 6)), ValueError, "class of each of 2 clips"),
        ((torch.rand(2, 2, 1, 16, 16), torch.tensor([0, 1])), ValueError, "nothing to predict"),
        ((torch.rand(2, 5, 3, 16, 16), torch.tensor([0, 1])), ValueError, "built for 1 channel"),
        ((torch.rand(2, 5, 1, 16, 16) * 9, torch.tensor([0, 1])), ValueError, r"in \[0, 1\]"),
    ],
)
def test_batches_that_do_not_fit(batch, kind, message):
    with pytest.raises(kind, match=message) as error:
        task().training_step(batch, 0)
    assert "\n" not in str(error.value)


def test_a_classifier_for_other_channels():
    with pytest.raises(ValueError, match="pass it in_channels equal"):
        task(classifier=classifier(8))(torch.rand(1, LENGTH, 1, 16, 16))


def test_a_loss_that_is_not_finite():
    model = task()
    torch.nn.init.constant_(model.classifier.linear.bias, torch.nan)
    model.trainer = trainer(".")
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        model.training_step((torch.rand(2, LENGTH, 1, 16, 16), torch.tensor([0, 1])), 1)


def test_weights_of_its_checkpoints(tmp_path):
    """The predictor of a checkpoint can be used alone, as that of a run of ForecastTask."""
    model = task(frozen=False)
    fit = trainer(tmp_path, max_steps=1, limit_val_batches=0)
    fit.fit(model, Bars())
    path = tmp_path / "a.ckpt"
    fit.save_checkpoint(path)
    assert model.predictor is not None
    for name, weight in weights.load_predictor(path).state_dict().items():
        assert torch.equal(weight, model.predictor.state_dict()[name])
    again = classifier()
    weights.load(again, path)
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, model.classifier.state_dict()[name])
    other = task(classifier=classifier(hidden_channels=16))
    with pytest.raises(ValueError, match=r"of another model .*classifier\."):
        trainer(tmp_path).fit(other, Bars(), ckpt_path=path, weights_only=True)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("frozen", "when", "interrupted"),
    [
        (True, {"every_n_train_steps": 4}, 5),  # within an epoch; a step after it is lost
        (False, {"every_n_train_steps": 4}, 5),
        (True, {"every_n_epochs": 2}, 7),  # at the end of an epoch
    ],
)
def test_resumed_run_equals_uninterrupted_run(tmp_path, frozen, when, interrupted, workers):
    def run(callbacks=(), ckpt_path=None):
        torch.manual_seed(0 if ckpt_path is None else 99)
        model = task(frozen=frozen, scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=3))
        if ckpt_path is not None and model.predictor is not None:  # the checkpoint has the weights
            model.predictor.load_state_dict(
                {k: torch.zeros_like(x) for k, x in model.predictor.state_dict().items()}
            )
        saving = {"enable_checkpointing": bool(callbacks), "callbacks": list(callbacks)}
        fit = trainer(tmp_path, max_steps=8, **saving)
        fit.fit(model, Bars(num_workers=workers), ckpt_path=ckpt_path, weights_only=True)
        assert fit.global_step == 8
        return model.state_dict(), [optimizer.state_dict() for optimizer in fit.optimizers]

    whole = run()
    saving = ModelCheckpoint(dirpath=tmp_path, save_top_k=-1, **when)
    with pytest.raises(Interruption):
        run([saving, Interrupt(interrupted)])
    (checkpoint,) = tmp_path.glob("*.ckpt")
    assert_same(run(ckpt_path=checkpoint), whole)


@pytest.mark.slow
def test_the_examples_run_one_after_the_other(tmp_path, capsys):
    for number in range(2):
        write(tmp_path / "videos" / f"{number}.mkv", range(90 * number, 90 * number + 60))
    settings = {"size": (16, 16), "length": 12, "val_fraction": 0.26, "test_fraction": 0.3}
    source = sources.videos(tmp_path / "videos", classes="file", split_by="time", **settings)
    clips = prepare(source, tmp_path / "clips.h5")
    tiny = [f"--data.path={clips}", "--trainer.max_steps=1", "--trainer.val_check_interval=1"]

    def run(command, name, *settings):
        folder = f"--trainer.default_root_dir={tmp_path / command / name}"
        config = EXAMPLES / f"{name}.yaml"
        options = [*tiny, folder, "--trainer.accelerator=cpu", *settings]
        assert cli.main([command, "--config", str(config), *options]) == 0
        return tmp_path / command / name / "lightning_logs" / "version_0"

    layers = ["--model.predictor.hidden_channels=4", "--model.predictor.layers=1"]
    made = run("fit", "forecast", *layers)
    run("fit", "baseline")
    trained = f"--model.predictor.path={made / 'checkpoints' / 'last.ckpt'}"
    channels = "--model.classifier.in_channels=4"
    made = run("fit", "recognise", trained, channels)
    checkpoint = f"--ckpt_path={made / 'checkpoints' / 'last.ckpt'}"
    capsys.readouterr()
    tested = run("test", "recognise", trained, channels, checkpoint)
    with (tested / "test.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert f"top1 {float(row['top1']):.4f}, top5 1.0000" in capsys.readouterr().out
    predicted = run("predict", "recognise", trained, channels)
    assert "untrained weights" in capsys.readouterr().err
    (path,) = (predicted / "predictions").iterdir()
    assert np.load(path).shape == (2, 20)


def test_the_examples_differ_where_they_say():
    files = [EXAMPLES / f"{name}.yaml" for name in ("recognise", "baseline")]
    recognise, baseline = (yaml.safe_load(file.read_text()) for file in files)
    assert recognise["model"]["init_args"].pop("predictor")
    for content, channels in ((recognise, 16), (baseline, 3)):
        settings = content["model"]["init_args"]["classifier"]["init_args"]
        assert settings.pop("in_channels") == channels
        assert content["trainer"].pop("default_root_dir").startswith("runs/action/")
    assert recognise == baseline


@pytest.mark.slow
def test_two_processes_train_and_score_as_one_with_both_shards(tmp_path):
    """Eleven clips to score: one process has six of them, the other five."""

    def run(start, folder, batch_size, *settings):
        arguments = [
            *("fit", "--model", "vidpred.tasks.ActionTask"),
            *("--model.context_length=2", "--model.predictor", "vidpred.models.zoo.stau"),
            *("--model.predictor.hidden_channels=4", "--model.predictor.layers=2"),
            *("--model.frozen=false", "--model.classifier.in_channels=4"),
            *("--model.classifier.hidden_channels=8", "--model.optimizer=torch.optim.SGD"),
            "--model.optimizer.lr=0.1",
            *(f"--model.classifier.classes={CLASSES}", "--data", "test_action.Bars"),
            *("--data.clips=11", f"--data.batch_size={batch_size}", "--trainer.max_steps=4"),
            *("--trainer.accelerator=cpu", "--trainer.val_check_interval=2"),
            *("--trainer.check_val_every_n_epoch=null", f"--trainer.default_root_dir={folder}"),
            *("--trainer.callbacks=vidpred.tasks.ResumableCheckpoint", "--trainer.logger=false"),
            *("--trainer.callbacks.monitor=val_loss", *settings),
        ]
        start(succeed, *arguments)
        content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        (saved,) = (x for k, x in content["callbacks"].items() if "Checkpoint" in k)
        return content["state_dict"], saved["current_score"].item()

    two = ("--trainer.devices=2", "--trainer.strategy=ddp")
    weights, score = run(lambda f, *args: f(*args), tmp_path / "1", 4)
    found, together = run(in_two_processes, tmp_path / "2", 2, *two)
    assert together == pytest.approx(score, rel=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-5, atol=3e-6)


def test_labels_are_not_for_a_forecast(tmp_path):
    model = ForecastTask(predictor(), context_length=CONTEXT)
    with pytest.raises(TypeError, match="a batch is one tensor"):
        trainer(tmp_path, max_steps=1).fit(model, Bars())
