import time

import pytest
from helpers import digits_config

from ltkd.training.history import ProgressBar


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_is_drawn_often_in_a_terminal_and_rarely_in_a_file(capsys, monkeypatch, terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    bar = ProgressBar(digits_config(), 1, 1000, 0, show=True)
    for _ in range(8):
        time.sleep(0.05)
        bar.update(1)
    drawn = capsys.readouterr().err.count("\r")
    assert drawn > 2 if terminal else drawn == 1
    bar.close()
