"""Data sets in the layouts that they are downloaded in, each a function that gives its clips."""

from vidpred.data.sources.base import Clip, Source, Split

__all__ = ["Clip", "Source", "Split"]
