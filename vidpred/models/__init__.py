"""Encoders, decoders, the predictor with its time loop, discriminator, classifier, model zoo."""

from vidpred.models import zoo
from vidpred.models.autoencoder import (
    ConvDecoder,
    ConvEncoder,
    Decoder,
    Encoder,
    PatchDecoder,
    PatchEncoder,
)
from vidpred.models.classifier import ActionClassifier, hidden_states
from vidpred.models.clip import ClipPredictor, ClipState
from vidpred.models.crevnet import IRevNetBlock, LatestFrame, TwoWay
from vidpred.models.discriminator import Discriminator
from vidpred.models.domains import DomainEncoder, MergedDecoder
from vidpred.models.encoder_forecaster import (
    EncoderForecaster,
    EncoderForecasterState,
    StridedDecoder,
    StridedEncoder,
)
from vidpred.models.free_running import FreeRunningPredictor
from vidpred.models.frnn import TanhEncoder, TiedDecoder
from vidpred.models.iprnn import MergedStack
from vidpred.models.phydnet import Branch, Parallel, PhyDNetDecoder, PhyDNetEncoder
from vidpred.models.predictor import Predictor
from vidpred.models.stip import DomainStack, SharedCore
from vidpred.models.strpm import DomainDecoder, DomainZigzag

__all__ = [
    "ActionClassifier",
    "Branch",
    "ClipPredictor",
    "ClipState",
    "ConvDecoder",
    "ConvEncoder",
    "Decoder",
    "Discriminator",
    "DomainDecoder",
    "DomainEncoder",
    "DomainStack",
    "DomainZigzag",
    "Encoder",
    "EncoderForecaster",
    "EncoderForecasterState",
    "FreeRunningPredictor",
    "IRevNetBlock",
    "LatestFrame",
    "MergedDecoder",
    "MergedStack",
    "Parallel",
    "PatchDecoder",
    "PatchEncoder",
    "PhyDNetDecoder",
    "PhyDNetEncoder",
    "Predictor",
    "SharedCore",
    "StridedDecoder",
    "StridedEncoder",
    "TanhEncoder",
    "TiedDecoder",
    "TwoWay",
    "hidden_states",
    "zoo",
]
