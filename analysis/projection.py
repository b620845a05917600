"""Features in a plane in which neighbours stay neighbours: t-SNE (van der Maaten and Hinton 2008).

In this way figure 7 of Mirowski et al. 2017 shows the policy LSTM's cells on the I-maze: clusters of what the agent
represents about the goal. Distances between clusters and their sizes have no meaning. The paper names no perplexity;
ours is scikit-learn's, and less for few samples. The map starts from principal components, so it is the same every
time.
"""

import chex
import numpy as np

PERPLEXITY = 30.0


def embed(features: np.ndarray) -> np.ndarray:
  """Points in the plane, `[N, 2]`, for features `[N, D]`; ValueError for fewer than two samples."""
  from sklearn import manifold  # Imported here, since it takes seconds, and most figures do not need it.

  features = np.asarray(features, np.float64)
  chex.assert_rank(features, 2)
  if len(features) < 2:
    raise ValueError(f"{len(features)} samples have no neighbours; record more")
  perplexity = min(PERPLEXITY, (len(features) - 1) / 3.0)
  return manifold.TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(features)
