"""Builds the command line's options for training from the same Settings that define RunConfig and the methods."""

import argparse
from collections.abc import Callable, Collection, Mapping
from textwrap import dedent, indent
from typing import Any

from .. import datasets, methods, models
from .._support.settings import Setting
from ..config.recipes import RECIPES
from ..config.run_config import SETTINGS
from ..training.fit import ARGUMENTS
from ..training.teacher_cache import CACHES

Commands = Any  # what ArgumentParser.add_subparsers returns; its class is private to argparse


def add_command(
    commands: Commands,
    name: str,
    function: Callable[[argparse.Namespace], int | None],
    epilog: str,
    usage: str = "[options]",
) -> argparse.ArgumentParser:
    """Add a command, and return its parser, still without options.

    function: runs the command and returns its exit code (None: 0); the first line of its docstring is the command's
    help. epilog: text at the end of the help.
    """
    summary = (function.__doc__ or "").split("\n")[0]
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        usage=f"%(prog)s {usage}",  # argparse would list all options above each error
        help=summary,
        description=summary,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=function)
    return parser


def examples(text: str) -> str:
    """Indented examples for the end of a help text."""
    return "\nexamples:\n" + indent(dedent(text).strip(), "  ")


def known_names() -> str:
    """All methods, recipes, networks and data sets, for the end of a help text."""
    summaries = {name: (cls.__doc__ or "").split("\n")[0] for name, cls in methods.METHODS.items()}
    lines = ["methods:", *(f"  {name:16} {summary}" for name, summary in summaries.items())]
    lines += ["", "recipes:", *(f"  {name:18} {recipe.summary}" for name, recipe in RECIPES.items())]
    lines += [
        "",
        f"networks: {', '.join(models.MODELS)}, timm:<name>",
        f"data sets: {', '.join(datasets.SOURCES)}, or a folder",
        "",
    ]
    return "\n".join(lines)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the options that set where and how a run is stored and computed; `where` reads them."""
    group = parser.add_argument_group("where")
    group.add_argument("--runs", metavar="FOLDER", help="folder of the runs (default: LTKD_RUNS, else runs)")
    group.add_argument(
        "--data", metavar="FOLDER", help="folder of the data sets (default: LTKD_DATA, else data/downloads)"
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    add_option(group, "workers", ARGUMENTS["workers"], ARGUMENTS["workers"].help, default=None)
    group.add_argument(
        "--cache",
        choices=CACHES,
        default="auto",
        help="where the teacher's logits are stored for reuse (default: auto: in memory if they fit)",
    )
    group.add_argument("--compile", action="store_true", help="use torch.compile, with CUDA graphs on a GPU")
    group.add_argument(
        "--retrain", action="store_true", help="train finished runs again, but not their teachers or parents"
    )
    group.add_argument("--quiet", action="store_true", help="no progress bars")


def where(given: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `fit` except the config."""
    return {
        "runs": given.runs,
        "data_root": given.data,
        "device": given.device,
        "workers": given.workers,
        "cache": given.cache,
        "compile": given.compile,
        "retrain": given.retrain,
        "progress": not given.quiet,
    }


def add_settings(parser: argparse.ArgumentParser, *, repeated: bool, only: Collection[str] | None = None) -> None:
    """Add one option per field of RunConfig and per option of the methods.

    repeated: each option takes several values; only: names of fields; then no other options are added.
    """
    more = {"nargs": "+"} if repeated else {}
    group = parser.add_argument_group("settings of a run", "default: the value of the recipe")
    for name, setting in SETTINGS.items():
        if name not in ("options", "dataset_version") and (only is None or name in only):
            add_option(group, name, setting, setting.help + _few(setting.choices), **more)
    if only is None:
        group = parser.add_argument_group("options of the methods")
        for name, owners in methods.option_names().items():
            add_option(group, name, next(iter(owners.values())), _meanings(owners), **more)


def _few(choices: Collection[str]) -> str:
    """The choices of an option; empty if there are many, because the end of the help lists those."""
    return f" ({', '.join(choices)})" if 0 < len(choices) < 10 else ""


def _meanings(owners: Mapping[str, Setting[Any]]) -> str:
    """The help of an option: its meaning and its default in each method that has it. owners: {method: its Setting}."""
    by_meaning: dict[str, list[str]] = {}
    for method, option in owners.items():
        default = f"{option.default:g}" if isinstance(option.default, float) else str(option.default).lower()
        by_meaning.setdefault(option.help, []).append(f"{method} {default}")
    return "; ".join(f"{meaning} ({', '.join(found)})" for meaning, found in by_meaning.items())


def add_option(group: Any, name: str, setting: Setting[Any], help: str, **more: Any) -> None:
    """Add one option, such as --batch-size for batch_size, with values of the setting's type.

    The command checks the value later. Without a `default` in `more`, an unset option is missing from the namespace.
    """
    look = {"metavar": name.split("_")[-1].upper(), "help": help.replace("%", "%%")}
    more = {"default": argparse.SUPPRESS} | look | more
    group.add_argument(f"--{name.replace('_', '-')}", dest=name, type=setting.parse, **more)


def settings(given: argparse.Namespace) -> dict[str, Any]:
    """The settings of the run, and the options of its method, that the user set."""
    known = {*SETTINGS, *methods.option_names()}
    return {name: value for name, value in vars(given).items() if name in known}
