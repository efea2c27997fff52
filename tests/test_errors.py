import pickle

import pytest

from ltkd import ConfigError, DataError, LtkdError, RunError
from ltkd.config.run_config import SETTINGS
from ltkd.errors import Interrupted, TimeUp, shown, unknown
from ltkd.methods import option_names

PARAMETERS = [*SETTINGS, *option_names()]


@pytest.mark.parametrize("kind", [LtkdError, ConfigError, DataError, RunError, Interrupted, TimeUp])
def test_a_message_is_one_line_whatever_it_quotes(kind):
    error = kind("torch says:\n\tsize mismatch\r\n  for fc.weight ")
    assert str(error) == "torch says: size mismatch for fc.weight"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert error._render_traceback_() == [f"{kind.__name__}: {error}"]


def test_a_value_in_a_message_is_one_short_line():
    assert shown("a\nb") == "'a\\nb'"
    assert len(shown("x" * 9999)) == len(shown([1] * 9999)) == 100
    assert len(str(unknown("name", "x" * 9999, ["a"]))) < 200


NEAR = {
    "epoch": "epochs",
    "seeds": "seed",
    "num_epochs": "epochs",
    "alfa": "alpha",
    "gama": "gamma",
    "batchsize": "batch_size",
    "tmperature": "temperature",
    "Temperature": "temperature",
    "warm_up": "warmup",
    "scheduler": "lr_schedule",
}
FAR = ["amp", "device", "optimizer", "dropout", "model", "table", "loss", "gpu", "workers", "runs", "bs", "T", "", "wd"]


def test_only_a_near_name_is_suggested():
    for name, nearest in NEAR.items():
        assert f"did you mean {nearest!r}?" in str(unknown("parameter", name, PARAMETERS))
    for name in FAR:
        assert "did you mean" not in str(unknown("parameter", name, PARAMETERS)), name
