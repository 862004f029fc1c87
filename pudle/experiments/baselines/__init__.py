"""How fast, and how far, does every published method recover the dictionary from the same data, start and budget? (PUDLE, Section 5)"""
