"""Where do gradients through the layers explode, and what cures it: another loss, step, depth, truncation? (PUDLE, Section 4)"""
