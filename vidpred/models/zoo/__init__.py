"""The published models: functions that build them, with the papers' settings as defaults."""

from vidpred.models.zoo.clips import (
    stae,
    stae_ucf101,
    stae_ucf_sports,
    stip,
    stip_human36m,
    stip_sjtu4k,
    stip_ucf_sports,
)
from vidpred.models.zoo.domains import strpm
from vidpred.models.zoo.free_running import encoder_forecaster, frnn, trajgru
from vidpred.models.zoo.patched import (
    convlstm,
    mim,
    motionrnn,
    predrnn,
    predrnnpp,
    predrnnv2,
    sa_convlstm,
)
from vidpred.models.zoo.reversible import crevnet
from vidpred.models.zoo.strided import iprnn, mau, phydnet, stacked, stau
from vidpred.models.zoo.windowed import e3d_lstm, stam

__all__ = [
    "convlstm",
    "crevnet",
    "e3d_lstm",
    "encoder_forecaster",
    "frnn",
    "iprnn",
    "mau",
    "mim",
    "motionrnn",
    "phydnet",
    "predrnn",
    "predrnnpp",
    "predrnnv2",
    "sa_convlstm",
    "stacked",
    "stae",
    "stae_ucf101",
    "stae_ucf_sports",
    "stam",
    "stau",
    "stip",
    "stip_human36m",
    "stip_sjtu4k",
    "stip_ucf_sports",
    "strpm",
    "trajgru",
]
