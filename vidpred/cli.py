"""The command ``vidpred``: help, dispatch, and errors in one line."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from itertools import islice

from vidpred.errors import is_input_error, one_line

HELP = """\
usage: vidpred COMMAND [arguments]

Train and use recurrent video predictors.

commands:
  fit       train a model
  validate  score it on the validation set
  test      score it on the test set: a table and curves per predicted step
  predict   save its predictions of the test set, or make a film of those of a video
  import    make a model folder of a checkpoint: a run's, the authors', OpenSTL's
  evaluate  score models on a test set, beside published results: a report to open in a browser
  data      make one file of a data set or of your own videos, check it, show what is in it
  inspect   draw the gates, the attention and the states within a model that predicts a video
  detect    compare what a detector finds on a video and on the predictions of it
  demo      train a small model for two minutes and look at its predictions

  vidpred fit --config examples/moving_mnist/stgru.yaml --data.root DIR
  vidpred fit --config RUN/config.yaml --ckpt_path RUN/checkpoints/last.ckpt    (goes on)
  vidpred test --config RUN/config.yaml --ckpt_path RUN/checkpoints/last.ckpt
  vidpred predict --ckpt RUN/checkpoints/last.ckpt --input clip.mp4 --output out.mp4
  vidpred COMMAND --help

With VIDPRED_TRACEBACK=1 in the environment an error shows where it comes from."""

RUN_HELP = """\
usage: vidpred {command} --config FILE [--SETTING VALUE ...]

Settings have defaults, the file overrules them, the command line overrules the file. All of them,
merged, are saved as config.yaml in the folder of the run.

  --config FILE              YAML; of several the later overrule the earlier
  --print_config             show all settings, merged, and stop
  --ckpt_path FILE           checkpoint to go on from (fit), or whose weights to use
  --seed_everything N        seed of the initial weights

  --data.root DIR            folder with MNIST; without it: digits that come with scikit-learn
  --data.batch_size N        ... and whatever --data.help vidpred.data.MovingMNISTData lists

  --model.predictor vidpred.models.zoo.stau --model.predictor.layers N
  --model.optimizer torch.optim.AdamW --model.optimizer.lr X
  --model.context_length N   ... and whatever --model.help vidpred.tasks.ForecastTask lists
  --model vidpred.tasks.AdversarialTask --model.discriminator.in_channels N
  --model.lp_weight X --model.gan_weight X

  --trainer.max_steps N      ... and every other argument of lightning.pytorch.Trainer, such as
  --trainer.precision bf16-mixed
  --trainer.accelerator gpu --trainer.devices 2
  --trainer.default_root_dir DIR
  --trainer.fast_dev_run true
  --trainer.logger lightning.pytorch.loggers.WandbLogger"""

PREDICT_HELP = """\
usage: vidpred predict --ckpt FILE --input VIDEO --output FILM [--horizon N ...]
   or: vidpred predict --config FILE --ckpt_path FILE [--SETTING VALUE ...]

With --config, save the predictions of a test set; the settings are those of vidpred test --help.
With --input, make a film of a video: truth, prediction and error, side by side. The model sees the
first frames of the video, forecasts the next ones, starts anew from the true frames then, and so
on; its last forecast goes beyond the end, where there is no truth to show. Every frame says how
many frames ahead it was predicted. A video of any length takes the same memory.

  --ckpt FILE        checkpoint of a run, or folder of vidpred import
  --input VIDEO      any format that FFmpeg reads, any size; it is turned to grey or colour as the
                     model needs
  --output FILM      FILM.mp4, FILM.gif, or a folder, new or empty, for PNG pictures
  --context N        frames that the model sees before its first forecast (10)
  --horizon N        frames of a forecast (10)
  --max_frames N     read no more of the video than that
  --device NAME      cpu or cuda; without it cuda where there is such a device

  vidpred predict --ckpt RUN/checkpoints/last.ckpt --input clip.mp4 --horizon 6 --output out.mp4"""

IMPORT_HELP = """\
usage: vidpred import CHECKPOINT --model NAME --out DIR [--model.SETTING VALUE ...]

Turn a checkpoint of the authors' code, of OpenSTL or of a run into a model folder, which
vidpred.models.Predictor.from_pretrained(DIR) loads: DIR/config.json and DIR/model.safetensors.

  CHECKPOINT                 file of torch.save; no code that it may hold is run
  --model NAME               function of vidpred.models.zoo; not needed for a checkpoint of a run
  --out DIR                  a folder that is new or empty
  --model.SETTING VALUE      as in training; vidpred import --model NAME --help lists them

A checkpoint of a run knows its settings. Others are refused when the shapes of their weights do not
fit the settings; what no shape shows (tau, theta, gamma, recall, forget_bias,
strides, depth) is yours to know.

  vidpred import stau.pth --model stau --model.norm layer --model.size '[64,64]' --out DIR
  vidpred import RUN/checkpoints/last.ckpt --out DIR"""

EVALUATE_HELP = """\
usage: vidpred evaluate --data FILE.h5 --out DIR [--ckpt MODEL ...] [--SETTING VALUE ...]

Score models on a test set, and the copy of the last frame with them. In DIR: report.html, a page
that holds all its pictures and opens offline, standard.csv, paper.csv and evaluation.json, the
curves over the predicted frames, and the clips predicted best, worst and in the middle.

  --ckpt MODEL [MODEL ...]   checkpoints of runs, or folders of vidpred import
  --data FILE.h5             file of vidpred data prepare; or any data set of vidpred test, such as
                             --data vidpred.data.MovingMNISTData --data.root DIR
  --data.SETTING VALUE       batch_size, num_workers, test_length and whatever --data.help
                             vidpred.data.MovingMNISTData lists
  --context N                frames of each clip that the models see (10)
  --horizon N                frames that they predict after them (10)
  --lpips NET                measure LPIPS with alex, vgg or squeeze, whose weights you have
  --i3d FILE.pt              measure FVD with a TorchScript of I3D, of 9 predicted frames or more
  --published NAME           show what the papers publish on moving_mnist, caltech, ... and compare
                             where the test set is theirs; a FILE.h5 knows its own
  --device NAME              cpu or cuda; without it cuda where there is such a device
  --config FILE              YAML with any of these settings; the command line overrules it

  vidpred evaluate --ckpt stau.ckpt mau.ckpt --data caltech.h5 --published caltech --out DIR"""

_RUNS = ("fit", "validate", "test", "predict")
_TOOLS = {
    "data": "data_command",
    "demo": "demo",
    "detect": "detection",
    "evaluate": "evaluator",
    "import": "importer",
    "inspect": "inspector",
}
_HELP = {name: RUN_HELP.format(command=name) for name in _RUNS}
_HELP |= {"evaluate": EVALUATE_HELP, "import": IMPORT_HELP, "predict": PREDICT_HELP}


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        args: The arguments after the program's name; by default those of this process.

    Returns:
        The exit status: 0, 1 when training diverged or another process of the run has gone, 2 when
        the input is at fault, 130 when interrupted before training (within, Lightning saves what
        the callbacks say and exits with 1).

    Example:
        >>> main(["fly"])  # and one line on stderr that names the commands
        2
    """
    arguments = _files_first(sys.argv[1:] if args is None else args)
    if os.getcwd() not in sys.path:  # settings may name classes of the user's own, as with -m
        sys.path.append(os.getcwd())
    command = arguments[0] if arguments else "--help"
    try:
        if command in ("-h", "--help"):
            print(HELP)
        elif command == "--version":
            from vidpred import __version__

            print(f"vidpred {__version__}")
        elif command in _HELP and _asks_for_help(arguments):
            print(_HELP[command])
        elif command == "predict" and _names_a_video(arguments):
            from vidpred import streaming

            streaming.main(arguments[1:])
        elif command in _TOOLS:
            importlib.import_module(f"vidpred.{_TOOLS[command]}").main(arguments[1:])
        elif command in _RUNS:
            from vidpred.commands import VidpredCLI

            VidpredCLI(arguments)
        else:
            expected = ", ".join([*_RUNS, *_TOOLS])
            raise ValueError(f"no command {command!r}; expected one of {expected}")
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("VIDPRED_TRACEBACK") or not is_input_error(error):
            raise
        print(f"vidpred: error: {one_line(str(error))}", file=sys.stderr)
        return 1 if isinstance(error, FloatingPointError | ConnectionError) else 2
    return 0


def _files_first(arguments: Sequence[str]) -> list[str]:
    """Put the configuration files after the command, before the settings that overrule them.

    The parser takes one after the other: a file would overrule the settings before it.
    """
    command, rest = list(arguments[:1]), iter(arguments[1:])
    files: list[str] = []
    settings: list[str] = []
    for argument in rest:
        if argument in ("-c", "--config"):
            files += [argument, *islice(rest, 1)]
        else:
            (files if argument.startswith("--config=") else settings).append(argument)
    return command + files + settings


def _asks_for_help(arguments: Sequence[str]) -> bool:
    command, *rest = arguments
    if command == "import":  # which lists a model's settings itself
        return rest in ([], ["-h"], ["--help"])
    return bool({"-h", "--help"} & set(rest))


def _names_a_video(arguments: Sequence[str]) -> bool:
    options = {argument.partition("=")[0] for argument in arguments}
    return bool({"--ckpt", "--input", "--output"} & options)
