"""The run store: one folder per run. Each file is written completely or not at all.

- config.json: all settings that determine the run
- checkpoint.pt: the training state after the last stored epoch; only while the run is unfinished
- student.safetensors: the trained weights
- logits.npz: test logits and labels of the last epoch, and the number of training images per class
- test.npz: replaces the two files above in an imported run: training images and hits per class, confusion matrix
- history.parquet: one row per epoch
- result.json: written last; a run with this file is finished. It holds the digests of all files above but the
  checkpoint, which has its own: a file that changed later is refused. Runs of older versions have none
- .claim: lock of the process that trains the run; only while the run is unfinished
"""

from .result_file import REPORTED
from .run import Run, checkpoint_bytes, predict, runs_folder
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
