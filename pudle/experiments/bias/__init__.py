"""How far are the codes, and the dictionary learned from them, from the truth, and which forward pass takes the bias away? (PUDLE, Section 4)"""
