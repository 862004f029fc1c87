"""Which gradient learns the convolutional dictionary that denoises photographs best? (PUDLE, Section 5)"""
