"""The run store: one folder a run, every file written whole or not at all.

- config.json: what determines the run
- checkpoint.pt: while unfinished, the state after the last epoch stored
- student.safetensors: the trained weights
- logits.npz: test logits and labels of the last epoch, training images of each class
- history.parquet: one row an epoch
- result.json: written last, so that its presence means the run is finished
- .claim: while unfinished, the lock of the process that trains it
"""

from .run import Run, checkpoint_bytes, predict, runs_folder
from .store import PackedRun, all_runs, packed_runs, recorded_runs, strangers, unpacked
from .tables import OWN_SUBSET, REPORTED, designs, interval, shared_subsets, summarise, table, tabulate

__all__ = [
    "OWN_SUBSET",
    "REPORTED",
    "PackedRun",
    "Run",
    "all_runs",
    "checkpoint_bytes",
    "designs",
    "interval",
    "packed_runs",
    "predict",
    "recorded_runs",
    "runs_folder",
    "shared_subsets",
    "strangers",
    "summarise",
    "table",
    "tabulate",
    "unpacked",
]
