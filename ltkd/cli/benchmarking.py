"""The command benchmark."""

import argparse
from typing import Any

from .._support.terminal import say
from ..reproduce import benchmark
from ..reproduce.device_check import Check, check_device
from ..training.fit import pick_device
from . import options


def run_benchmark(given: argparse.Namespace) -> int:
    """Measure the speed of training on this machine, beside the usual loop."""
    chosen = {name: value for name, value in vars(given).items() if name in benchmark.SETTINGS}
    setup = benchmark.Setup(**(benchmark.QUICK if given.quick else {}) | chosen)
    checks = _checked(setup, given.data) if given.check else []
    result = benchmark.benchmark(setup) | {"checks": [check._asdict() for check in checks]}
    say(*benchmark.report(result).split("\n"))
    if given.json:
        benchmark.store(result, given.json)
    return 1 if any(check.failed for check in checks) else 0


def _checked(setup: benchmark.Setup, data_root: str | None) -> list[Check]:
    device = pick_device(setup.device)
    if device.type == "cpu":
        say("There is no GPU, or --device excludes it: this checks the CPU.")
    return check_device(device, data_root)


# --- options ---


def add_benchmark(commands: Any) -> None:
    parser = options.add_command(commands, "benchmark", run_benchmark, "")
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds: under a minute")
    parser.add_argument(
        "--check", action="store_true", help="first compare short compiled and bf16 runs with eager ones"
    )
    parser.add_argument(
        "--data", metavar="FOLDER", help="folder of the data sets (default: LTKD_DATA, else data/downloads)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the result to this file")
    for name, setting in benchmark.SETTINGS.items():
        options.add_option(parser, name, setting, f"{setting.help} (default: {setting.default})")


ADD = (add_benchmark,)
