"""The layers of a column: `layer` says what a column asks of a layer; the layers in other modules are examples."""

from progressive.layers.feed_forward import Conv, Dense, LayerNorm
from progressive.layers.flax_module import Flax
from progressive.layers.layer import Activated, Layer, Shape, Source
from progressive.layers.naming import from_json, to_json
from progressive.layers.recurrent import GRU, LSTM, LSTMState, Recurrent

__all__ = (
  "GRU",
  "LSTM",
  "Activated",
  "Conv",
  "Dense",
  "Flax",
  "Layer",
  "LayerNorm",
  "LSTMState",
  "Recurrent",
  "Shape",
  "Source",
  "from_json",
  "to_json",
)
