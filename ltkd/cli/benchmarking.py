"""benchmark."""

from ..reproduce import benchmark
from ..reproduce.device_check import check_device
from ..training.fit import pick_device
from . import options


def run_benchmark(given):
    """Measure what training costs on this machine, beside a loop written the usual way."""
    chosen = {name: value for name, value in vars(given).items() if name in benchmark.SETTINGS}
    setup = benchmark.Setup(**(benchmark.QUICK if given.quick else {}) | chosen)
    checks = _checked(setup, given.data) if given.check else []
    result = benchmark.benchmark(setup) | {"checks": [check._asdict() for check in checks]}
    print(benchmark.report(result))
    if given.json:
        benchmark.store(result, given.json)
    return 1 if any(check.failed for check in checks) else 0


def _checked(setup, data_root):
    device = pick_device(setup.device)
    if device.type == "cpu":
        print("There is no GPU here, or it was not asked for: the CPU is checked.")
    return check_device(device, data_root)


# --- options ---


def add_benchmark(commands):
    parser = options.add_command(commands, "benchmark", run_benchmark, "")
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds: under a minute")
    parser.add_argument(
        "--check", action="store_true", help="first hold compiled and bf16 runs against eager ones, on short runs"
    )
    parser.add_argument("--data", metavar="FOLDER", help="where data lie (default: LTKD_DATA, else data/downloads)")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    for name, setting in benchmark.SETTINGS.items():
        options.add_option(parser, name, setting, f"{setting.help} (default: {setting.default})")


ADD = (add_benchmark,)
