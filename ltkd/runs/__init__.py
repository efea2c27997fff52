"""The run store: one folder a run, every file written whole or not at all.

- config.json: what determines the run
- checkpoint.pt: while unfinished, the state after the last epoch stored
- student.safetensors: the trained weights
- logits.npz: test logits and labels of the last epoch, training images of each class
- test.npz: of an imported run, in place of the two files above: training images, hits and confusion of the classes
- history.parquet: one row an epoch
- result.json: written last, so that its presence means the run is finished
- .claim: while unfinished, the lock of the process that trains it
"""

from .run import REPORTED, Run, checkpoint_bytes, predict, runs_folder
from .store import all_runs, read_store, recorded_runs
from .tables import OWN_SUBSET, designs, interval, shared_subsets, summarise, table, tabulate

__all__ = [
    "OWN_SUBSET",
    "REPORTED",
    "Run",
    "all_runs",
    "checkpoint_bytes",
    "designs",
    "interval",
    "predict",
    "read_store",
    "recorded_runs",
    "runs_folder",
    "shared_subsets",
    "summarise",
    "table",
    "tabulate",
]
