"""Progressive networks: columns that learn one task each and keep what the earlier ones know (Rusu et al. 2016).

    import progressive as pn
    spec = pn.Network(columns=(column,))
    params = pn.init(key, spec)
    ...                                                    # Learn the first task.
    grown = pn.Network(columns=(column, other_column))
    params = pn.grow(key, params, spec=grown)
    trainable, frozen = pn.split(params, lambda path: path[0] == 1)
    outputs = pn.apply(pn.merge(trainable, frozen), grown, inputs={"x": x})[0][-1]["output"]

The package works on arrays only: no reinforcement learning, no world, no optimiser. Arguments come in the order key,
parameters, spec; the first two are passed by position and all others by name. `network` is the table of contents: it
joins columns (`column`) of layers (`layers`) by laterals (`lateral`), and `wiring` chooses these laterals. `start` fits
a new column to what it sees. `partition` says which parameters learn. `baselines` are other partitions of the same
machinery. `cost` reports what each column costs.
"""

from progressive.baselines import METHODS, prepare
from progressive.column import Column
from progressive.cost import report as cost_report
from progressive.layers import GRU, LSTM, Conv, Dense, Flax, Layer, LayerNorm, Recurrent
from progressive.network import Network, apply, grow, init, initial_state
from progressive.partition import content_hash, count, merge, paths, split
from progressive.start import standardise

__all__ = (
  "GRU",
  "LSTM",
  "METHODS",
  "Column",
  "Conv",
  "Dense",
  "Flax",
  "Layer",
  "LayerNorm",
  "Network",
  "Recurrent",
  "apply",
  "content_hash",
  "cost_report",
  "count",
  "grow",
  "init",
  "initial_state",
  "merge",
  "paths",
  "prepare",
  "split",
  "standardise",
)
