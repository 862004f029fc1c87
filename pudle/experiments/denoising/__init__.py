"""Which gradient learns the convolutional dictionary that denoises photographs best? (PUDLE, Section 5)"""

GALLERY = 4  # images of each set that are always in the galleries, beside the worst and the best
