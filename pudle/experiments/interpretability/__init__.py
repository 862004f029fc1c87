"""Interpretability: what atoms and outputs owe to the training images."""
