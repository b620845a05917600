"""What a network is made of, as text: layers, laterals and parameters of each column, with totals."""

from progressive import cost, network


def table(spec: network.Network) -> str:
  """Layers, what they read, laterals, parameters and FLOPs (forward, one step), as text."""
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
  widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
  lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
  lines.insert(1, "  ".join("-" * width for width in widths))
  lines.append("")
  for k, one in enumerate(columns):
    lines.append(f"column {k}: {one.num_parameters:,} parameters, {one.num_alphas} alphas, {one.flops:,} FLOPs a step")
  total = sum(one.num_parameters for one in columns), sum(one.flops for one in columns)
  lines.append(f"total: {total[0]:,} parameters, {total[1]:,} FLOPs a step")
  return "\n".join(lines)
