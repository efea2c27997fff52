"""benchmark."""

from dataclasses import fields

from ..reproduce import benchmark
from . import options


def run_benchmark(given):
    """Measure what training costs on this machine, beside a loop written the usual way."""
    chosen = {field.name: getattr(given, field.name) for field in fields(benchmark.Setup) if hasattr(given, field.name)}
    result = benchmark.benchmark(benchmark.Setup(**(benchmark.QUICK if given.quick else {}) | chosen))
    print(benchmark.report(result))
    if given.json:
        benchmark.store(result, given.json)


# --- options ---


def add_benchmark(commands):
    parser = options.add_command(commands, "benchmark", run_benchmark, "")
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds: under a minute")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    for field in fields(benchmark.Setup):
        if field.type in (int, str):
            convert = options.count if field.type is int else str
            options.add_option(parser, field.name, convert, f"{field.metadata['help']} (default: {field.default})", {})


ADD = (add_benchmark,)
