"""Which denoised images a cell keeps, and the figures show."""

GALLERY = 4  # images of each set that are always in the galleries, beside the worst and the best
