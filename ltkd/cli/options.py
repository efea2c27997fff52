"""Options of the command line: those of every command that trains, made from the Settings behind them."""

import argparse
from textwrap import dedent, indent
from typing import Any

from .. import datasets, methods, models
from .._support.settings import Setting
from ..config.recipes import RECIPES
from ..config.run_config import SETTINGS
from ..training.teacher_cache import CACHES


def add_command(commands, name, function, epilog, usage="[options]"):
    """The parser of a command that calls `function`; the first line of its docstring is the help."""
    summary = function.__doc__.split("\n")[0]
    parser = commands.add_parser(
        name,
        usage=f"%(prog)s {usage}",  # argparse would name every option again before each error
        help=summary,
        description=summary,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(command=function)
    return parser


def examples(text):
    """Indented examples for the end of a help text."""
    return "\nexamples:\n" + indent(dedent(text).strip(), "  ")


def known_names():
    """All methods, recipes, networks and data sets, for the end of a help text."""
    lines = ["methods:", *(f"  {name:16} {cls.__doc__.splitlines()[0]}" for name, cls in methods.METHODS.items())]
    lines += ["", "recipes:", *(f"  {name:18} {recipe.summary}" for name, recipe in RECIPES.items())]
    lines += [
        "",
        f"networks: {', '.join(models.MODELS)}, timm:<name>",
        f"data sets: {', '.join(datasets.SOURCES)}, or a folder",
        "",
    ]
    return "\n".join(lines)


def add_places(parser):
    """Options that say where a run is stored and computed, as `where` reads them."""
    group = parser.add_argument_group("where")
    group.add_argument("--runs", metavar="FOLDER", help="folder of the runs (default: LTKD_RUNS, else runs)")
    group.add_argument("--data", metavar="FOLDER", help="where data lie (default: LTKD_DATA, else data/downloads)")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    group.add_argument("--workers", type=int, help="processes that decode images on disk (default: one a core)")
    group.add_argument(
        "--cache",
        choices=CACHES,
        default="auto",
        help="where a teacher's answers are kept, so that it is asked once (default: auto: in memory with room)",
    )
    group.add_argument("--compile", action="store_true", help="use torch.compile; on a GPU with CUDA graphs")
    group.add_argument("--retrain", action="store_true", help="train finished runs anew, but not what they build on")
    group.add_argument("--quiet", action="store_true", help="no progress bars")


def where(given):
    """What `fit` takes beside the config."""
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


def add_settings(parser, *, repeated, only=None):
    """One option for each field of RunConfig, or for the fields `only`; without `only`, one for each option of the
    methods too. repeated: an option takes several values."""
    more = {"nargs": "+"} if repeated else {}
    group = parser.add_argument_group("what is trained", "unset ones come from the recipe")
    for name, setting in SETTINGS.items():
        if name not in ("options", "dataset_version") and (only is None or name in only):
            add_option(group, name, setting, setting.help + _few(setting.choices), **more)
    if only is None:
        group = parser.add_argument_group("options of the methods")
        for name, owners in methods.option_names().items():
            add_option(group, name, next(iter(owners.values())), _meanings(owners), **more)


def _few(choices):
    """The names to choose from, unless there are so many that they are listed at the end of the help."""
    return f" ({', '.join(choices)})" if 0 < len(choices) < 10 else ""


def _meanings(owners):
    """What an option means, and its default, in each method that has it: {method: Option} -> text."""
    by_meaning = {}
    for method, option in owners.items():
        default = f"{option.default:g}" if isinstance(option.default, float) else str(option.default).lower()
        by_meaning.setdefault(option.help, []).append(f"{method} {default}")
    return "; ".join(f"{meaning} ({', '.join(found)})" for meaning, found in by_meaning.items())


def add_option(group: Any, name: str, setting: Setting[Any], help: str, **more: Any) -> None:
    """One option of the command line, such as --batch-size for batch_size. Its text becomes a value of the setting's
    type, and the command checks the value. Without a `default` an unset option stays out of the namespace."""
    look = {"metavar": name.split("_")[-1].upper(), "help": help.replace("%", "%%")}
    more = {"default": argparse.SUPPRESS} | look | more
    group.add_argument(f"--{name.replace('_', '-')}", dest=name, type=setting.parse, **more)


def settings(given):
    """What the caller set of the run itself."""
    known = {*SETTINGS, *methods.option_names()}
    return {name: value for name, value in vars(given).items() if name in known}
