"""Training: the Lightning tasks, and the callbacks and schedules that go with them."""

from vidpred.tasks.action import ActionTask
from vidpred.tasks.adversarial import AdversarialTask
from vidpred.tasks.callbacks import PredictionPicture, PredictionWriter
from vidpred.tasks.checkpoints import ResumableCheckpoint
from vidpred.tasks.forecast import ForecastTask
from vidpred.tasks.schedule import DelayedStepLR
from vidpred.tasks.strategy import StepDDPStrategy

__all__ = [
    "ActionTask",
    "AdversarialTask",
    "DelayedStepLR",
    "ForecastTask",
    "PredictionPicture",
    "PredictionWriter",
    "ResumableCheckpoint",
    "StepDDPStrategy",
]
