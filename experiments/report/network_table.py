"""The structure of a network as text: layers, laterals and parameters of each column, with totals."""

from experiments.report import text_table
from progressive import cost, network


def table(spec: network.Network) -> str:
  """Layers, their inputs, laterals, parameters and FLOPs (forward, one step), as text."""
  rows = [("column", "layer", "reads", "shape", "laterals from", "parameters", "in laterals", "FLOPs")]
  columns = cost.report(spec)
  for k, one in enumerate(columns):
    for layer in one.layers:
      laterals = [f"{j}.{name} ({lateral.kind})" for lateral in layer.laterals for j, name in [lateral.source]]
      in_laterals = sum(lateral.num_parameters for lateral in layer.laterals)
      flops = layer.flops + sum(lateral.flops for lateral in layer.laterals)
      shape = "x".join(map(str, layer.shape))
      what = (str(k), f"{layer.name} ({layer.kind})", ", ".join(layer.inputs), shape, ", ".join(laterals) or "-")
      rows.append((*what, f"{layer.num_parameters + in_laterals:,}", f"{in_laterals:,}", f"{flops:,}"))
  rules = tuple("-" * max(map(len, cells)) for cells in zip(*rows, strict=True))
  lines = text_table.lines([rows[0], rules, *rows[1:]])
  lines.append("")
  for k, one in enumerate(columns):
    lines.append(f"column {k}: {one.num_parameters:,} parameters, {one.num_alphas} alphas, {one.flops:,} FLOPs a step")
  total = sum(one.num_parameters for one in columns), sum(one.flops for one in columns)
  lines.append(f"total: {total[0]:,} parameters, {total[1]:,} FLOPs a step")
  return "\n".join(lines)
