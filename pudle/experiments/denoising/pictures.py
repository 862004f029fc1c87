"""How many denoised images a cell keeps for the figures."""

GALLERY = 4  # images of each data set in the galleries, in addition to the worst and the best
