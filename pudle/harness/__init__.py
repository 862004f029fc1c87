"""How anything is planned, run, recorded, summarised and judged. Knows no experiment and no method."""
