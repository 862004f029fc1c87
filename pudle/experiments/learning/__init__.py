"""Which dictionary does each gradient learn, and how does the number of layers matter? (PUDLE, Section 5)"""
