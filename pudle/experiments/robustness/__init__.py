"""Do the orderings hold under noise, minibatches, other learning rates, other codes and independent signs? (PUDLE, Appendix)"""
