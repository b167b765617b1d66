import os
import re
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import yaml
from command import vidpred
from torch.utils.data import Dataset, get_worker_info

from vidpred import cli
from vidpred.data import MovingMNISTData, Video, write_video
from vidpred.models import Discriminator, Predictor, zoo
from vidpred.weights import load as load_weights

ROOT = Path(__file__).parents[1]
CONF = ROOT / "tests" / "conf"
EXAMPLES = sorted((ROOT / "examples" / "moving_mnist").glob("*.yaml"))  # of files: test_clip_data
TINY = [
    *("--model.context_length=2", "--model.predictor.hidden_channels=4"),
    *("--data.length=4", "--data.canvas=32", "--data.batch_size=2"),
    *("--data.num_workers=0", "--data.val_size=2", "--trainer.fast_dev_run=true"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
]


def settings(*arguments):
    """The merged settings of a fit."""
    status, out, err = vidpred("fit", *arguments, "--print_config")
    assert status == 0, err
    return yaml.safe_load(out)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished training run."""
    folder = tmp_path_factory.mktemp("runs")
    status, _, err = vidpred(
        "fit", "--config", CONF / "forecast.yaml", "--trainer.default_root_dir", folder
    )
    assert status == 0, err
    (run,) = (folder / "lightning_logs").iterdir()
    return run


def reuse(run, command, *arguments):
    """Run a command on a finished run; return its stdout and the folder that it made."""
    before = set(run.parent.iterdir())
    checkpoint = run / "checkpoints" / "last.ckpt"
    status, out, err = vidpred(
        command, "--config", run / "config.yaml", "--ckpt_path", checkpoint, *arguments
    )
    assert status == 0, err
    (folder,) = set(run.parent.iterdir()) - before
    return out, folder


def weights(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples_run(file, tmp_path):
    options = yaml.safe_load(file.read_text())["model"]["init_args"]["predictor"]["init_args"]
    tiny = [*TINY, "--model.predictor.layers=2"] if "layers" in options else TINY
    if "hidden_channels" not in options:  # CrevNet's follow from the frames
        tiny = [argument.replace("hidden_channels=4", "blocks=[1,1]") for argument in tiny]
    status, _, err = vidpred("fit", "--config", file, *tiny, "--trainer.default_root_dir", tmp_path)
    assert status == 0, err


def test_every_model_has_an_example():
    files = "".join(file.read_text() for file in (ROOT / "examples").rglob("*.yaml"))
    used = set(re.findall(r"class_path: vidpred\.models\.zoo\.(\w+)", files))
    assert used == {*zoo.__all__} - {"encoder_forecaster"}  # which takes any unit


def test_examples_differ_in_the_predictor_and_its_sampling_alone():
    contents = [yaml.safe_load(file.read_text()) for file in EXAMPLES]
    for file, content in zip(EXAMPLES, contents, strict=True):
        del content["model"]["init_args"]["predictor"]
        sampling = content["model"]["init_args"].pop("sampling")["class_path"].split(".")[-1]
        assert sampling.startswith("Reverse") == (file.stem == "predrnnv2")
        assert content["trainer"].pop("default_root_dir") == f"runs/moving_mnist/{file.stem}"
        assert content == contents[0]


def test_the_examples_of_the_three_losses_differ_in_their_weights_alone():
    weights = {"mse": (0.0, 0.0), "mse_gan": (0.0, 0.001), "mse_gan_lp": (0.01, 0.001)}
    contents = []
    for name, pair in weights.items():
        file = ROOT / "examples" / "high_resolution" / f"{name}.yaml"
        contents.append(yaml.safe_load(file.read_text()))
        settings = contents[-1]["model"]["init_args"]
        assert (settings.pop("lp_weight"), settings.pop("gan_weight")) == pair
        assert contents[-1]["trainer"].pop("default_root_dir") == f"runs/high_resolution/{name}"
        assert contents[-1] == contents[0]


@pytest.mark.parametrize(
    ("name", "size", "weights"),
    [
        ("mse_gan_lp", (512, 512), (0.01, 0.001)),
        ("stip_human36m", (1024, 1024), (0.01, 0.001)),
        ("stip_sjtu4k", (2160, 3840), (0.005, 0.0005)),
    ],
)
def test_the_examples_of_the_full_loss_are_as_published(name, size, weights):
    file = ROOT / "examples" / "high_resolution" / f"{name}.yaml"
    settings = yaml.safe_load(file.read_text())["model"]["init_args"]
    assert (settings["lp_weight"], settings["gan_weight"]) == weights
    predictor = settings["predictor"]["class_path"].split(".")[-1]
    discriminator = Discriminator(**settings["discriminator"]["init_args"])
    assert discriminator.patch == getattr(zoo, predictor)(hidden_channels=4, layers=1).patch
    assert len(discriminator.layers) == 8
    halved = 2**8 * discriminator.patch
    assert [*discriminator.grid] == [-(-side // halved) for side in size]  # the whole last map


@pytest.mark.parametrize("file", sorted(CONF.glob("*.yaml")), ids=lambda file: file.stem)
def test_configurations_run(file, tmp_path):
    status, _, err = vidpred("fit", "--config", file, "--trainer.default_root_dir", tmp_path)
    assert status == 0, err
    assert list(tmp_path.glob("lightning_logs/version_0/checkpoints/*.ckpt"))


def test_a_run_keeps_its_results(run):
    names = {file.name for file in run.iterdir()}
    assert {"config.yaml", "checkpoints"} <= names
    assert not [name for name in names if name.startswith(".")]
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert len(list((run / "checkpoints").glob("epoch=*.ckpt"))) == 1


@pytest.mark.parametrize("order", ["file first", "file last", "file last, in one word"])
def test_command_line_overrules_file_overrules_default(order):
    file = ["--config", CONF / "forecast.yaml"]
    given = ["--trainer.max_steps", "7", "--data.canvas", "48"]
    if order == "file last, in one word":
        file = [f"--config={file[1]}"]
    merged = settings(*file, *given) if order == "file first" else settings(*given, *file)
    data, model = merged["data"]["init_args"], merged["model"]["init_args"]
    assert merged["trainer"]["max_steps"] == 7  # file: 4
    assert data["canvas"] == 48  # file: 32
    assert data["length"] == 6  # default: 20
    assert data["digits"] == 2  # default
    assert model["optimizer"]["class_path"] == "torch.optim.Adam"
    assert model["optimizer"]["init_args"]["lr"] == 1e-3
    assert merged["trainer"]["use_distributed_sampler"] is False


def test_the_later_file_overrules_the_earlier(tmp_path):
    (tmp_path / "more.yaml").write_text("trainer: {max_steps: 9}")
    files = ["--config", CONF / "forecast.yaml", "--config", tmp_path / "more.yaml"]
    assert settings("--data.canvas", "48", *files)["trainer"]["max_steps"] == 9


def test_everything_can_be_chosen_on_the_command_line():
    merged = settings(
        *("--config", CONF / "forecast.yaml"),
        *("--model.optimizer", "torch.optim.SGD", "--model.optimizer.momentum", "0.9"),
        *("--model.optimizer.lr", "0.1"),
        *("--model.scheduler", "torch.optim.lr_scheduler.StepLR", "--model.scheduler.step_size=3"),
        *("--model.sampling", "vidpred.sampling.ReverseScheduledSampling"),
        *("--model.predictor.cell", "vidpred.cells.STAUCell"),
        *("--model.predictor.cell.tau", "2"),
    )["model"]["init_args"]
    assert merged["optimizer"]["class_path"] == "torch.optim.SGD"
    assert merged["optimizer"]["init_args"]["momentum"] == 0.9
    assert merged["scheduler"]["init_args"]["step_size"] == 3
    assert merged["sampling"]["init_args"] == {"begin": 25000, "end": 50000, "alpha": 5000.0}
    cell = merged["predictor"]["init_args"]["cell"]
    assert cell["class_path"] == "vidpred.cells.STAUCell"
    assert cell["init_args"]["tau"] == 2
    other = settings(
        *("--config", CONF / "forecast.yaml"),
        *("--model.predictor", "vidpred.models.zoo.stau", "--model.predictor.theta", "3"),
    )["model"]["init_args"]["predictor"]
    assert other["init_args"]["theta"] == 3
    assert "cell" not in other["init_args"]


def test_saved_configuration_reproduces_the_run(run, tmp_path):
    status, _, err = vidpred(
        "fit", "--config", run / "config.yaml", "--trainer.default_root_dir", tmp_path
    )
    assert status == 0, err
    again = tmp_path / "lightning_logs" / "version_0"
    for name, weight in weights(run).items():
        assert torch.equal(weights(again)[name], weight)
    saved, resaved = (yaml.safe_load((x / "config.yaml").read_text()) for x in (run, again))
    assert resaved["trainer"].pop("default_root_dir") == str(tmp_path)
    del saved["trainer"]["default_root_dir"]
    for settings in (saved, resaved):  # default metrics: their names, then also their arguments
        assert list(settings["model"]["init_args"].pop("metrics")) == ["MSE", "PSNR", "SSIM"]
    assert resaved == saved


def test_fit_goes_on_from_a_checkpoint(run):
    _, folder = reuse(run, "fit", "--trainer.max_steps", "6")
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 6
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4


@pytest.mark.slow
def test_a_run_with_wandb_has_one_folder(tmp_path, monkeypatch):
    import wandb

    monkeypatch.chdir(tmp_path)  # where this logger keeps its runs
    logger = ["--trainer.logger", "lightning.pytorch.loggers.WandbLogger"]
    logger += ["--trainer.logger.project", "digits", "--trainer.logger.offline", "true"]
    saving = ["--trainer.callbacks", "vidpred.tasks.ResumableCheckpoint"]
    try:
        status, _, err = vidpred("fit", "--config", CONF / "forecast.yaml", *logger, *saving)
        assert status == 0, err
        wandb.finish()
        (run,) = (tmp_path / "digits").iterdir()
        assert {file.name for file in run.iterdir()} == {"config.yaml", "checkpoints"}
        _, folder = reuse(run, "fit", "--trainer.max_steps", "6")
    finally:
        wandb.finish()
    assert yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_steps"] == 6
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 6
    assert list((tmp_path / "wandb").glob("offline-run-*"))


def test_test_prints_and_saves_the_table(run):
    out, folder = reuse(run, "test")
    rows = [line.split() for line in out.splitlines() if line.split()[:1]]
    steps = [row[0] for row in rows]
    assert steps[-5:-1] == ["1", "2", "3", "mean"]
    saved = (folder / "test.csv").read_text().splitlines()
    assert saved[0] == "step,MSE,MSE (copy),PSNR,PSNR (copy),SSIM,SSIM (copy)"
    assert float(saved[1].split(",")[1]) == pytest.approx(float(rows[-5][1]), rel=1e-3)
    assert (folder / "test.png").is_file()
    assert not (folder / "config.yaml").exists()  # that file is a training's


def test_validate_and_predict(run):
    out, _ = reuse(run, "validate")
    assert "val_mse" in out
    _, folder = reuse(run, "predict", "--trainer.limit_predict_batches", "2")
    names = {file.name for file in (folder / "predictions").iterdir()}
    assert names == {"0-00000.npy", "0-00001.npy", "prediction.png", "prediction.gif"}


def test_an_adversarial_run_is_used_like_any_other(tmp_path):
    folder = ["--trainer.default_root_dir", tmp_path]
    status, _, err = vidpred("fit", "--config", CONF / "adversarial.yaml", *folder)
    assert status == 0, err
    (run,) = (tmp_path / "lightning_logs").iterdir()
    checkpoint = run / "checkpoints" / "last.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    assert content["global_step"] == 4
    out, _ = reuse(run, "test")
    assert "SSIM (copy)" in out
    _, folder = reuse(run, "predict")
    assert (folder / "predictions" / "0-00000.npy").is_file()
    _, folder = reuse(run, "fit", "--trainer.max_steps", "6")
    further = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert further["global_step"] == 6
    status, _, err = vidpred("import", checkpoint, "--out", tmp_path / "model")
    assert status == 0, err
    model = Predictor.from_pretrained(tmp_path / "model")
    discriminator = Discriminator(1, 8, downsamplings=3, patch=2, grid=(2, 2))
    load_weights(discriminator, checkpoint)
    for part, found in {"predictor": model, "discriminator": discriminator}.items():
        for name, weight in found.state_dict().items():
            assert torch.equal(weight, content["state_dict"][f"{part}.{name}"])


def test_a_run_predicts_videos(run, tmp_path):
    with write_video(tmp_path / "clip.gif", fps=10) as write:
        for t in range(5):
            write(torch.full((1, 30, 40), 50 * t, dtype=torch.uint8), Fraction(t, 10))
    status, _, err = vidpred(
        *("predict", "--ckpt", run / "checkpoints" / "last.ckpt", "--context", "2"),
        *("--input", tmp_path / "clip.gif", "--horizon", "2", "--output", tmp_path / "out.mp4"),
    )
    assert status == 0, err
    assert len(list(Video(tmp_path / "out.mp4"))) == 7


def test_configuration_is_saved_without_a_logger_too(tmp_path):
    arguments = ["--config", CONF / "forecast.yaml", "--trainer.logger", "false"]
    arguments += ["--model.scheduler", "null"]
    folder = ["--trainer.default_root_dir", tmp_path]
    for steps in ("1", "2"):  # the second run finds the first one's file
        assert vidpred("fit", *arguments, *folder, "--trainer.max_steps", steps)[0] == 0
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert saved["trainer"]["max_steps"] == 2
    assert saved["model"]["init_args"]["scheduler"] is None  # its default is another
    # A test of weights that no training made says so, and leaves the training's file alone.
    status, _, err = vidpred("test", "--config", tmp_path / "config.yaml", "--data.test_size", "2")
    assert status == 0
    assert err.splitlines()[0].startswith("vidpred: warning: without --ckpt_path")
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == saved


CELL, PREDICTOR = "--model.predictor.cell", "--model.predictor"
BAD = {
    "no command": (
        ["fly"],
        "'fly'; expected one of fit, validate, test, predict, data, demo, detect, evaluate",
    ),
    "no file": (["fit"], "required: fit.data, fit.model"),
    "missing file": (["fit", "--config", "nowhere.yaml"], "does not exist: .*nowhere.yaml"),
    "no YAML": (["fit", "--config", "{tmp}/broken.yaml"], "parsing"),
    "key": (["fit", "--config", "{tmp}/key.yaml"], "does not accept option 'trainer.max_stepz'"),
    "nested key": (
        ["fit", "--config", "{tmp}/nested.yaml"],
        r"model\.predictor: Option 'layerz' is not accepted by vidpred\.models\.zoo\.stacked",
    ),
    "argument": ("--modell.x 3", "unrecognized arguments: --modell.x"),
    "type": ("--trainer.max_steps many", r"trainer\.max_steps: expected int, got many$"),
    "nested type": ("--model.predictor.layers two", r"\.layers: expected int, got two$"),
    "pair": ("--data.canvas big", r"data\.canvas: expected int or \[int, int\], got big$"),
    "choice": ("--model.remat all", r"model\.remat: expected int or cells, got all$"),
    "optimiser's type": (
        "--model.optimizer.lr abc",
        r"model\.optimizer\.lr: expected float or module\.Class, got abc$",
    ),
    "value": ("--model.predictor.layers 0", "layers=0"),
    "schedule": ("--model.sampling.start 2", r"start is a probability in \[0, 1\], got 2"),
    "unit": (f"{CELL} vidpred.cells.NoCell", r"cell: .*'NoCell'; expected one of .*STGRUCell"),
    "unit's module": (f"{CELL} vidpred.cell.STGRUCell", "module 'vidpred' has no attribute 'cell'"),
    "no class path": (f"{CELL} STGRUUCell", "expected module.Class, got STGRUUCell"),
    "no unit": (f"{CELL} torch.nn.Linear", "'torch.nn.Linear' to be a subclass of Cell"),
    "unit's argument": (f"{CELL}.tau 3", "'tau' is not accepted by vidpred.cells.STGRUCell"),
    "model": (f"{PREDICTOR} vidpred.models.zoo.no", "'no'; expected one of .*predrnn, .*stau"),
    "digits": ("--data.root nowhere", "nowhere"),
    "damaged digits": ("--data.root {tmp}/damaged", "train-images"),
    "canvas": ("--data.canvas 16", "16x16"),
    "context": ("--model.context_length 6", "context_length=6 .* clips of 6 frames"),
    "channels": (f"{PREDICTOR}.in_channels 3", r"built for 3 channel\(s\)"),
    "checkpoint": ("--ckpt_path nowhere.ckpt", "no checkpoint at nowhere.ckpt"),
    "folder": ("--ckpt_path {tmp}", r"is a folder, .* Predictor\.from_pretrained$"),
    "cut checkpoint": ("--ckpt_path {tmp}/cut.ckpt", "cut.ckpt is damaged or no checkpoint"),
    "no checkpoint": ("--ckpt_path {tmp}/weights.pt", "weights.pt is no checkpoint of a run"),
    "code": ("--ckpt_path {tmp}/code.pt", "code.pt holds more than tensors .* could run code"),
    "other widths": ("--ckpt_path {ckpt} --model.predictor.hidden_channels 8", "another model"),
    "other unit": (f"--ckpt_path {{ckpt}} {CELL} vidpred.cells.ConvGRUCell", "another model"),
    "abbreviation": ("--trainer.max_step 3", "unrecognized arguments: --trainer.max_step"),
    "no sequences": ("--data.val_size 0", "val_size must be at least 1 sequence, got 0"),
    "empty file": ("--config {tmp}/empty.yaml", "configuration file is empty"),
    "demo": (["demo", "--minutes", "soon"], "soon"),
    "demo's digits": (["demo", "--root", "nowhere"], "nowhere"),
}


@pytest.fixture(scope="module")
def bad(run, tmp_path_factory):
    """A folder with bad input."""
    tmp = tmp_path_factory.mktemp("bad")
    good = (CONF / "forecast.yaml").read_text()
    (tmp / "broken.yaml").write_text("model: [")
    (tmp / "key.yaml").write_text(good.replace("max_steps", "max_stepz"))
    (tmp / "nested.yaml").write_text(good.replace("layers", "layerz"))
    (tmp / "empty.yaml").write_text("")
    (tmp / "damaged").mkdir()
    (tmp / "damaged" / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03\0\0\xea\x60")
    checkpoint = (run / "checkpoints" / "last.ckpt").read_bytes()
    (tmp / "cut.ckpt").write_bytes(checkpoint[: len(checkpoint) // 2])
    torch.save({"weight": torch.zeros(1)}, tmp / "weights.pt")
    torch.save({"state_dict": Path("code")}, tmp / "code.pt")
    return tmp


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case, run, bad, tmp_path):
    arguments, message = BAD[case]
    if isinstance(arguments, str):
        config = f"fit --config {CONF / 'forecast.yaml'} --trainer.default_root_dir {tmp_path}"
        arguments = f"{config} {arguments}".split()
    ckpt = run / "checkpoints" / "last.ckpt"
    status, _, err = vidpred(*(x.format(tmp=bad, ckpt=ckpt) for x in arguments))
    assert status == 2
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("vidpred: error: ")
    assert re.search(message, last), last
    assert len([line for line in err.splitlines() if "error" in line.lower()]) == 1


def test_divergence_is_one_line(tmp_path):
    status, _, err = vidpred(
        *("fit", "--config", CONF / "forecast.yaml", "--trainer.default_root_dir", tmp_path),
        *("--model.optimizer.lr", "1e30", "--trainer.max_steps", "20"),
        *("--trainer.num_sanity_val_steps", "0", "--trainer.limit_val_batches", "0"),
    )
    assert status == 1
    assert err.splitlines()[-1].startswith("vidpred: error: the loss is nan at step ")


class OutOfMemory(MovingMNISTData):
    """The system kills a worker for its memory."""

    def setup(self, stage=None):
        super().setup(stage)
        self.train_set = Killing()  # pyright: ignore[reportAttributeAccessIssue]


class Killing(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        assert get_worker_info() is not None
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_line(tmp_path):
    options = ("--data", "test_cli.OutOfMemory", "--data.num_workers=1", "--trainer.max_steps=1")
    folder = ("--trainer.default_root_dir", tmp_path)
    status, _, err = vidpred("fit", "--config", CONF / "forecast.yaml", *options, *folder)
    assert status == 2
    (error,) = (line for line in err.splitlines() if line.startswith("vidpred: error: "))
    assert "a worker process of the data was killed" in error
    assert "fewer num_workers or a smaller batch_size (DataLoader worker (pid" in error
    assert "Traceback" not in err


def test_traceback_on_request(monkeypatch):
    monkeypatch.setenv("VIDPRED_TRACEBACK", "1")
    with pytest.raises(ValueError, match="no command 'fly'"):
        cli.main(["fly"])


def test_bugs_keep_their_traceback(monkeypatch):
    def bug(*_):
        raise KeyError("a bug")

    monkeypatch.setattr("vidpred.demo.main", bug)
    with pytest.raises(KeyError):
        cli.main(["demo"])


def test_help_is_short_and_quick():
    for arguments in (
        [],
        ["--help"],
        *([c, "--help"] for c in ("fit", "test", "predict", "evaluate", "import")),
    ):
        status, out, _ = vidpred(*arguments)
        assert status == 0
        assert 10 < len(out.splitlines()) <= 30
        assert all(len(line) <= 100 for line in out.splitlines())
    code = (
        "import sys, vidpred.cli; sys.argv[1:] = ['--help']; vidpred.cli.main();"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_every_setting_in_the_help_exists():
    lines = [line.strip() for line in cli.RUN_HELP.splitlines() if line.startswith("  --")]
    words = " ".join(line.split("   ")[0] for line in lines).split()
    skipped = {"--config", "FILE", "--print_config", "--ckpt_path"}
    values = {"N": "3", "X": "0.1", "DIR": "somewhere"}
    arguments = [values.get(word, word) for word in words if word not in skipped]
    assert len(arguments) > 20
    merged = settings("--config", CONF / "forecast.yaml", *arguments)
    assert merged["model"]["init_args"]["predictor"]["class_path"] == "vidpred.models.zoo.stau"


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "vidpred", "fly"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert done.stderr.startswith("vidpred: error: no command 'fly'")
