"""From where does learning recover the dictionary? (PUDLE, Section 5; Arora, Ge, Ma & Moitra, COLT 2015)"""
