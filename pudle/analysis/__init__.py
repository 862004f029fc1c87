"""How rows become tables, verdicts, comparisons with published values, figures and the report."""
