"""Options of the command line: those of every command that trains, and what turns their text into values."""

import argparse
from dataclasses import fields
from textwrap import dedent, indent
from typing import get_args

from .. import datasets, methods, models
from ..config import RunConfig
from ..config.recipes import RECIPES
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
        "progress": not given.quiet,
    }


def add_settings(parser, *, repeated, only=None):
    """One option a field of RunConfig, and one an option of any method. Unset ones stay out of the namespace."""
    common = {"nargs": "+"} if repeated else {}
    group = parser.add_argument_group("what is trained", "unset ones come from the recipe")
    for field in fields(RunConfig):
        if field.name in ("options", "dataset_version") or (only and field.name not in only):
            continue
        kind = next((t for t in get_args(field.type) if t is not type(None)), field.type)
        convert = PARSERS.get(field.name, {bool: _flag}.get(kind, kind))
        add_option(group, field.name, convert, field.metadata["help"], common)
    if not only:
        group = parser.add_argument_group("options of the methods")
        for name, owners in methods.option_names().items():
            kind = type(next(iter(owners.values())).default)
            add_option(group, name, {bool: _flag}.get(kind, kind), _meanings(owners), common)


def _meanings(owners):
    """What an option means, and its default, in each method that has it: {method: Option} -> text."""
    by_meaning = {}
    for method, option in owners.items():
        default = f"{option.default:g}" if isinstance(option.default, float) else str(option.default).lower()
        by_meaning.setdefault(option.help, []).append(f"{method} {default}")
    return "; ".join(f"{meaning} ({', '.join(found)})" for meaning, found in by_meaning.items())


def add_option(group, name, convert, help, common):
    """One option that stays out of the namespace where it is not given."""
    flag, metavar = f"--{name.replace('_', '-')}", name.split("_")[-1].upper()
    group.add_argument(
        flag,
        dest=name,
        type=convert,
        metavar=metavar,
        default=argparse.SUPPRESS,
        help=help.replace("%", "%%"),
        **common,
    )


def settings(given):
    """What the caller set of the run itself."""
    known = {field.name for field in fields(RunConfig)} | set(methods.option_names())
    return {name: value for name, value in vars(given).items() if name in known}


def _profile(text):
    """A profile's name, or counts separated by commas."""
    return tuple(int(n) for n in text.split(",")) if text.replace(",", "").isdigit() else text


def count(text):
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number of at least 1")
    return int(text)


def minutes(text):
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number of minutes above 0")
    return value


def _classes(text):
    """Class numbers separated by commas."""
    return tuple(int(c) for c in text.split(","))


def _milestones(text):
    """Fractions separated by commas."""
    return tuple(float(m) for m in text.split(","))


def _flag(text):
    """true or false."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r}: must be true or false")
    return text.lower() == "true"


PARSERS = {"profile": _profile, "milestones": _milestones, "classes": _classes}
