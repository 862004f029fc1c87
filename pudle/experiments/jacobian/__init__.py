"""When does the derivative of the codes with respect to the dictionary converge to that of the lasso? (PUDLE, Section 4)"""
