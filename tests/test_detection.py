"""What detectors find on truth and predictions: the score, the adapters, the command."""

import csv
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from videos import write

from vidpred import cli
from vidpred.detectors import YOLO, FasterRCNN, detections
from vidpred.metrics import DetectionScore
from vidpred.models import zoo
from vidpred.panels import draw_boxes

EXAMPLES = sorted((Path(__file__).parents[1] / "examples" / "detection").glob("*.yaml"))
MOBILE = "fasterrcnn_mobilenet_v3_large_320_fpn"


def light(frames):
    """Finds the brightest half of a frame, surely on the right, less so on the left."""
    results = []
    for frame in frames:
        half = frame.shape[-1] // 2
        right = frame[..., half:].mean() >= frame[..., :half].mean()
        left, top, height = float(half * right), 0.0, float(frame.shape[-2])
        box = torch.tensor([[left, top, left + half - 1, height - 1]])
        results.append((box, torch.tensor([0.95 if right else 0.85]), ["light"]))
    return results


def test_score_by_hand():
    metric = DetectionScore(horizon=3)
    metric.update(1, torch.tensor([0.9, 0.79, 0.8]))
    metric.update(1, torch.tensor([]))
    metric.update(2, torch.tensor([0.5]))
    metric.update(2, torch.tensor([1.0, 1.0]))
    count, confidence, mean_count, mean_confidence = metric.compute()
    torch.testing.assert_close(count, torch.tensor([1.0, 1.0, torch.nan]), equal_nan=True)
    expected = torch.tensor([0.85, 1.0, torch.nan])
    torch.testing.assert_close(confidence, expected, equal_nan=True)
    assert mean_count.item() == 4 / 4
    assert mean_confidence.item() == pytest.approx((0.9 + 0.8 + 1 + 1) / 4)
    metric.reset()
    metric.update(1, torch.tensor([0.1]))
    assert metric.compute().count[0] == 0
    assert metric.compute().confidence[0].isnan()


def test_score_of_two_processes_is_that_of_all_frames():
    scores = [torch.rand(5) for _ in range(7)]
    whole, first, second = (DetectionScore(horizon=2, threshold=0.3) for _ in range(3))
    for number, found in enumerate(scores):
        whole.update(number % 2 + 1, found)
        (first if number < 2 else second).update(number % 2 + 1, found)
    other = iter([second.frames, second.found, second.confidence])
    # As torchmetrics gathers each state from all processes.
    first.dist_sync_fn = lambda state, group: [state, next(other)]
    first.distributed_available_fn = lambda: True
    for found, expected in zip(first.compute(), whole.compute(), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon": 0}, "at least 1"),
        ({"horizon": 1, "threshold": 8}, "between 0 and 1, got 1 and 8"),
    ],
)
def test_score_of_nothing(settings, message):
    with pytest.raises(ValueError, match=message):
        DetectionScore(**settings)


@pytest.mark.parametrize("step", [0, 3])
def test_a_step_beyond_the_horizon(step):
    with pytest.raises(ValueError, match="between 1 and 2"):
        DetectionScore(2).update(step, torch.ones(1))


def test_detectors_see_colours_in_range():
    seen = []

    def spy(frames):
        seen.append(frames)
        return light(frames)

    found = detections(spy, torch.tensor([-1.0, 0.5, 2.0, 0.0]).view(2, 1, 1, 2))
    assert seen[0].shape == (2, 3, 1, 2)
    assert seen[0][:, 0].flatten().tolist() == [0.0, 0.5, 1.0, 0.0]
    assert [x.scores.item() for x in found] == pytest.approx([0.95, 0.85])
    with pytest.raises(ValueError, match="1 or 3"):
        detections(light, torch.zeros(1, 2, 8, 8))


@pytest.mark.parametrize(
    "boxes",
    [
        [[1, 2, 3, 4.5], [0, 0, 2, 2]],
        np.array([[1, 2, 3, 4.5], [0, 0, 2, 2]]),
        torch.tensor([[1, 2, 3, 4.5], [0, 0, 2, 2]], dtype=torch.float64),
    ],
    ids=["lists", "an array", "a tensor"],
)
def test_detectors_return_numbers_of_any_kind(boxes):
    results = [(boxes, [1, 0.5], ("a", "b")), ([], [], [])]
    some, none = detections(lambda frames: iter(results), torch.zeros(2, 3, 8, 8))
    assert some.boxes.tolist() == [[1, 2, 3, 4.5], [0, 0, 2, 2]]
    assert (some.scores.tolist(), some.labels) == ([1, 0.5], ["a", "b"])
    assert (none.boxes.shape, none.scores.shape, none.labels) == ((0, 4), (0,), [])


BOX = [0.0, 0.0, 2.0, 2.0]
WRONG = {
    "nothing": (None, "got NoneType$"),
    "too few": ([], "got 0 results for 1 frames$"),
    "no result": ([None], "got NoneType: cannot unpack"),
    "torchvision's": ([{"boxes": [], "scores": [], "labels": []}], "got dict: .*'str'$"),
    "no boxes": ([(None, [], [])], "got tuple: must be real number, not NoneType$"),
    "no labels": ([([], [], None)], "got tuple: 'NoneType' object is not iterable$"),
    "ragged": ([([BOX, [1.0]], [1, 1], ["a", "b"])], "got tuple: .*length 4"),
    "counts": ([([BOX], [1.0, 1.0], ["a"])], r"got \(1, 4\), \(2,\) and 1 names$"),
    "a flat box": ([(BOX, [1.0], ["a"])], r"got \(4,\), \(1,\) and 1 names$"),
    "percent": ([([BOX], [95.0], ["a"])], r"got box \[0.0, 0.0, 2.0, 2.0\] with score 95$"),
    "negative": ([([BOX], [-1], ["a"])], "with score -1$"),
    "one name": ([([BOX], [1.0], "a")], r"got labels 'a'$"),
    "no names": ([([BOX], [1.0], [7])], r"got labels \[7\]$"),
    "NaN score": ([([BOX], [np.nan], ["a"])], "with score nan$"),
    "NaN box": ([([[np.nan, 0, 1, 1]], [1], ["a"])], r"got box \[nan, 0.0, 1.0, 1.0\] with"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_detector_that_returns_something_else(case):
    result, message = WRONG[case]
    detector: Any = lambda frames: result  # noqa: E731
    with pytest.raises(ValueError, match="a detector returns a list, .*" + message) as raised:
        detections(detector, torch.zeros(1, 3, 8, 8))
    assert "\n" not in str(raised.value)


def sure(frames):
    """Gives its scores in percent."""
    return [([BOX], [95], ["light"]) for _ in frames]


@pytest.fixture(scope="module")
def trunk(tmp_path_factory) -> Path:
    """A file as torchvision's are: of frozen norms, which count no batches; weights at random."""
    from torchvision import models

    torch.manual_seed(0)
    network = models.get_model(MOBILE, weights=None, weights_backbone=None, num_classes=91)
    state = {k: x for k, x in network.state_dict().items() if not k.endswith("_tracked")}
    path = tmp_path_factory.mktemp("weights") / "mobile.pth"
    torch.save(state, path)
    return path


def test_faster_rcnn_has_the_weights_of_its_file(trunk):
    from torchvision import models

    detector, state = FasterRCNN(trunk, MOBILE), torch.load(trunk, weights_only=True)
    again = detector.network.state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in state.items())
    frames = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(1))
    network = models.get_model(MOBILE, weights=None, weights_backbone=None).eval()
    network.load_state_dict(state, strict=False)
    # At random weights no class is likely: with a lower bar there is something to compare.
    for one in (detector.network, network):
        setattr(one.roi_heads, "score_thresh", 0.0)  # noqa: B010 -- typed as a module
    with torch.no_grad():
        expected = network(list(frames))
    for found, true in zip(detections(detector, frames), expected, strict=True):
        assert len(found.scores) > 0
        torch.testing.assert_close(found.boxes, true["boxes"])
        torch.testing.assert_close(found.scores, true["scores"])
        names = models.detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
        assert found.labels == [names[label] for label in true["labels"]]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("fasterrcnn_mobilenet_v3_large_fpn_", "there is no fasterrcnn_mobilenet_v3_large_fpn_; "),
        ("fasterrcnn_resnet50_fpn", "does not fit fasterrcnn_resnet50_fpn: these weights are of"),
    ],
)
def test_weights_of_another_network(trunk, model, message):
    with pytest.raises(ValueError, match=message) as error:
        FasterRCNN(trunk, model)
    assert "\n" not in str(error.value)


def test_yolo_through_its_package(tmp_path, monkeypatch):
    """A stub with the interface of ultralytics' own: arrays of blue, green, red in, boxes out."""
    path, seen = tmp_path / "yolo.pt", []

    class Stub:
        def __init__(self, weights):
            assert weights == str(path)

        def predict(self, pictures, device, verbose):
            seen.extend(pictures)
            boxes = types.SimpleNamespace(
                xyxy=torch.tensor([[1.0, 2.0, 3.0, 4.0]]),
                conf=torch.tensor([0.9]),
                cls=torch.tensor([1.0]),
            )
            return [types.SimpleNamespace(boxes=boxes, names={0: "cat", 1: "dog"})] * len(pictures)

    monkeypatch.setitem(sys.modules, "ultralytics", None)
    with pytest.raises(FileNotFoundError, match="no weights of a YOLO"):
        YOLO(path)
    path.touch()
    with pytest.raises(ValueError, match=r"pip install 'vidpred\[yolo\]'"):
        YOLO(path)
    module = types.ModuleType("ultralytics")
    module.YOLO = Stub  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "ultralytics", module)
    frames = torch.zeros(2, 3, 6, 8)
    frames[1, 0] = 1  # red
    found = detections(YOLO(path), frames)
    assert [x.labels for x in found] == [["dog"], ["dog"]]
    assert found[0].boxes.tolist() == [[1, 2, 3, 4]]
    assert seen[1].dtype == np.uint8
    assert seen[1].shape == (6, 8, 3)
    assert seen[1][0, 0].tolist() == [0, 0, 255]


def test_boxes_are_where_they_belong():
    picture = draw_boxes(torch.zeros(1, 300, 400), torch.tensor([[100.0, 80, 300, 200]]), ["cat"])
    assert picture.shape == (300, 400, 3)
    lime = (picture == (0, 1, 0)).all(axis=-1)
    assert lime[80:201, 100].all()
    assert lime[200, 100:301].all()
    assert not lime[82:199, 103:298].any()
    assert (picture[56:80, 100:140] != picture[0, 0]).any()  # the caption
    large = draw_boxes(torch.zeros(3, 32, 64), torch.zeros(0, 4), [])
    assert large.shape == (192, 384, 3)
    assert not large.any()


def run(tmp_path, *arguments):
    zoo.stau(3, hidden_channels=4, layers=1).save_pretrained(tmp_path / "model")
    write(tmp_path / "clip.mkv", range(0, 90, 10))
    out = tmp_path / "out"
    command = ["detect", "--ckpt", tmp_path / "model", "--input", tmp_path / "clip.mkv"]
    command += ["--output", out, "--context", 3, "--horizon", 2, *arguments]
    return cli.main([str(argument) for argument in command]), out


def test_the_command(tmp_path, capsys):
    torch.manual_seed(0)
    status, out = run(tmp_path, "--detector", "test_detection.light", "--threshold", 0.84)
    assert status == 0, capsys.readouterr().err
    assert "count (truth)" in capsys.readouterr().out
    with (out / "detections.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "mean"]
    # The left third of the video is red: as bright as its right half is not.
    assert [float(row["count (truth)"]) for row in rows] == [1, 1, 1]
    assert float(rows[0]["confidence (truth)"]) == pytest.approx(0.85)
    assert 0.84 < float(rows[1]["confidence (prediction)"]) < 0.96
    picture = np.asarray(Image.open(out / "detections.png").convert("RGB"))
    assert (picture == (0, 255, 0)).all(axis=-1).sum() > 100


def first_alone(frames):
    """Finds something where nothing is predicted, and nothing else."""
    return [([BOX], [0.9], ["light"]), ([], [], [])]


def test_the_means_are_those_of_all_frames_and_steps_end_with_the_video(tmp_path, capsys):
    command = ["--detector", "test_detection.first_alone", "--horizon", 40, "--max_frames", 7]
    status, out = run(tmp_path, *command)
    assert status == 0
    assert "the frames end 4 after a context" in capsys.readouterr().out
    with (out / "detections.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "mean"]
    assert {float(row["count (truth)"]) for row in rows} == {1}
    assert float(rows[-1]["confidence (truth)"]) == pytest.approx(0.9)
    assert float(rows[-1]["count (prediction)"]) == 0
    assert rows[-1]["confidence (prediction)"] == "nan"


def test_a_model_that_predicts_nothing_finite_is_refused(tmp_path, capsys, monkeypatch):
    model = zoo.stau(3, hidden_channels=4, layers=1)
    with torch.no_grad():
        next(model.decoder.parameters()).fill_(torch.nan)
    monkeypatch.setattr(zoo, "stau", lambda *args, **settings: model)
    status, out = run(tmp_path, "--detector", "test_detection.light")
    assert status == 1
    assert "predicts values that are not finite" in capsys.readouterr().err
    assert not (out / "detections.csv").exists()


def test_the_command_with_a_faster_rcnn(tmp_path, trunk, capsys):
    settings = ["--detector", "vidpred.detectors.FasterRCNN", "--detector.weights", trunk]
    status, out = run(tmp_path, *settings, "--detector.model", MOBILE, "--max_frames", 4)
    assert status == 0, capsys.readouterr().err
    assert (out / "detections.png").is_file()


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples_run(tmp_path, trunk, capsys, file):
    settings = ["--config", file, "--detector.weights", trunk, "--detector.model", MOBILE]
    status, out = run(tmp_path, *settings)
    assert status == 0, capsys.readouterr().err
    with (out / "detections.csv").open() as table:
        assert len(list(csv.DictReader(table))) == 2 + 1  # steps, by the command line; the mean


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--detector", "test_detection.sure"], "with score 95"),
        (["--detector", "test_detection.light", "--max_frames", 3], "nothing of it is predicted"),
        (
            ["--detector", "test_detection.light", "--max_frames", -1],
            "max_frames is -1, fewer",
        ),
        (["--detector", "test_detection.dark"], "dark"),
        (
            ["--detector", "vidpred.detectors.FasterRCNN", "--detector.weights", "no.pth"],
            "no checkpoint at no.pth",
        ),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, arguments, message):
    status, _ = run(tmp_path, *arguments)
    assert status == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert message in line
