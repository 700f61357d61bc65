"""The capture room: a model and its coders over a corpus, streamed to the lake."""

from lakeinterp.capture.run import Captured, capture

__all__ = ["Captured", "capture"]
