"""The papers' tables: their numbers and the grids of their runs, in data/."""
