"""How do the codes and the three gradients converge as layers are added, at a fixed dictionary near the truth? (PUDLE, Section 5)"""
