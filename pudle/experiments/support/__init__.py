"""When is the signed support found, and is it kept? Measured against sufficient conditions. (PUDLE, Section 4)"""
