"""Pictures of denoised images: how many a cell keeps for the figures, and their centres."""

GALLERY = 4  # images of each data set in the galleries, in addition to the worst and the best


def centre(image, height: int, width: int):
    """The middle of an ``image`` (h, w), an array or a tensor, of at most (height, width) pixels."""
    top, left = (max(0, (size - largest) // 2) for size, largest in zip(image.shape, (height, width), strict=True))
    return image[top : top + height, left : left + width]
