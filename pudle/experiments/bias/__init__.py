"""How far are codes, and the dictionary learned from them, from the truth, and which forward pass cures it? (PUDLE, Section 4)"""
