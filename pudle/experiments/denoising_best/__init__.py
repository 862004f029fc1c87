"""How well does the paper's dictionary denoise with a training of our choosing, and how well with what CSCNet adds?"""
