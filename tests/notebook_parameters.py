"""The notebooks in reading order, and a parameter set for each besides the stored one."""

from helpers import PROJECT

NOTEBOOKS = PROJECT / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("[0-9]*.ipynb"))
ALL = [*(NOTEBOOKS / f"{name}.ipynb" for name in NAMES), *sorted(NOTEBOOKS.glob("solutions/*.ipynb"))]
OTHER = {  # a parameter set besides the stored one, small enough for a test
    "01_long_tailed_data": {"profile": "step", "imbalance_factor": 10.0, "n_groups": 2},
    "02_teacher_bias": {"source": "live", "temperature": 1.0, "batch_size": 32, "epochs": 2, "teacher": "resnet8x0.5"},
    "03_decomposition": {"source": "live", "temperature": 1.0, "teacher_epochs": 2, "student_epochs": 1, "seed": 3},
    "04_balanced_losses": {"source": "live", "batch_size": 16, "teacher_epochs": 2, "student_epochs": 1, "seed": 3},
    "05_distillation_runs": {"seeds": 2, "epochs": 2, "methods": ["ce", "kd", "ltkd"], "live": False},
    "06_ablations": {"seeds": 1, "epochs": 1, "weights": [0.0, 1.0], "group_numbers": [1, 3], "temperatures": [1.0]},
    "07_explorer": {"baseline": "kd", "temperature": 1.0, "n_groups": 5, "seed": 3},
    "08_published_tables": {"table": "ltkd-5", "epoch": "best"},
    "09_your_own_data": {"methods": ["kd", "ltkd"], "epochs": 2, "seed": 1},
    "10_add_your_method": {"seeds": 2, "epochs": 2, "methods": ["ce"], "tau": 0.5, "temperature": 2.0, "live": False},
}
