"""The largest values that make sense; anything beyond them is a typo or would overflow later. Also the step size of image sides."""

from __future__ import annotations

MOST_STEPS = 1_000_000_000
MOST_EPOCHS = 1_000_000
MOST_REPEATS = 1_000_000  # of an image in an epoch
MOST_BATCH = 65_536  # images at once, or accumulated batches
PIXELS_OF_A_LATENT = 8  # along each side, so sides are multiples of it
MOST_PIXELS = 32_768  # per side
MOST_RANK = 32_768  # no weight of these models has a longer side
LARGEST_DIM = 10_000_000_000  # --network_dim: packages such as LyCORIS read a huge rank as a full matrix
MOST_RATE = 1_000  # learning rate
MOST_RATIO = 1_000_000_000  # strength of a merged network
MOST_NOISE = 1_000
MOST_WEIGHT = 1_000_000_000  # of a loss, a norm, an alpha: a factor
MOST_TAGS = 1_000_000  # of a caption
MOST_WORKERS = 1_024  # processes or threads
MOST_MINUTES = 1_000_000  # two years
MOST_SEED = 2**32 - 1
