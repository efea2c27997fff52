"""The claims of the papers, checked on our runs: each claim as paired differences over seeds.

A claim is checked separately in every setting: protocol, data set, imbalance factor and pair of networks. Only runs of
the same seed are compared: they have the same subset and the same teacher. Runs of one seed with different training
images raise RunError.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..config import CUSTOM
from ..methods import METHODS
from ..runs import Run, designs
from . import tables
from .compare import NOT_RUN, changes, on_subset, protocol
from .paired import Paired, check_same_images, paired
from .tables import TEACHER

if TYPE_CHECKING:
    import pandas as pd

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
NOTE = (
    "Each difference is a mean over seeds with its own interval. The interval does not include the chance of the test "
    "images, and of twenty comparisons without any difference about one is decided by chance."
)
ROUNDING = 1e-9  # points
ANY = "any"  # in place of the value of an option: every value in the runs, except 0, which drops a term
MORE = "more"  # in place of n_groups: every value in the runs above the recipe's three
PEERS = ("kd", "dkd", "reviewkd", "dist", "catkd")


class Side(NamedTuple):
    """One side of a comparison: a method, and its options that differ from the recipe, as (name, value) pairs. A value
    may be ANY or MORE."""

    method: str
    options: tuple[tuple[str, Any], ...] = ()

    def among(self, variants: "Iterable[Variant]") -> "list[Variant]":
        """The variants that belong to this side."""
        return [variant for variant in variants if self._covers(variant[0], dict(variant[1]))]

    def _covers(self, method: str, changed: Mapping[str, Any]) -> bool:
        wanted = dict(self.options)
        if method != self.method:
            return False
        if MORE in wanted.values():
            return set(changed) == set(wanted) and all(value > 3 for value in changed.values())
        if ANY not in wanted.values():
            return changed == wanted
        return set(changed) <= set(wanted) and 0 not in changed.values()


@dataclass(frozen=True)
class Claim:
    """The claim that `better` is above each side of `worse`, in each of the groups.

    text: the claim in our words. where: the place in the paper.
    """

    text: str
    where: str
    better: Side
    worse: tuple[Side, ...]
    groups: tuple[str, ...] = ("tail", "all")


Setting = tuple[str, str, float, str | None, str]  # protocol, data set, imbalance factor, teacher, student
Variant = tuple[str, tuple[tuple[str, Any], ...]]  # method, its changed options
Pair = tuple[int, int]  # subset_seed, seed
Sides = dict[Variant, dict[Pair, Run]]


LTKD, BKD = Side("ltkd"), Side("bkd")
CROSS, WITHIN = Side("ltkd", (("beta", 0.0),)), Side("ltkd", (("alpha", 0.0),))
BIASED = Side("ltkd", (("beta", 0.0), ("rebalanced", False)))
WEIGHTS = Side("ltkd", (("alpha", ANY), ("beta", ANY)))
ALONE = (Side("kd"), Side("ce"))  # both: KD weights the labels less than LTKD does, and may be below CE
SHOTS = ("all", "few_shot")

CLAIMS = (
    Claim("LTKD beats its teacher", "LTKD, Sec. 1: in nearly all cases", LTKD, (Side(TEACHER),)),
    Claim("LTKD is above every other distillation", "LTKD, Tab. 1 to 3", LTKD, tuple(map(Side, PEERS))),
    Claim("LTKD is above BKD", "LTKD, Sec. 2 argues it; no table", LTKD, (BKD,)),
    Claim("LTKD is above the student alone", "LTKD, Tab. 1 to 3", LTKD, (Side("ce"),)),
    Claim("rebalancing the cross-group term helps", "LTKD, Tab. 4", CROSS, (BIASED,)),
    Claim("the cross-group term helps alone", "LTKD, text to Tab. 5, against the table", CROSS, ALONE),
    Claim("the within-group term helps alone", "LTKD, Tab. 5", WITHIN, ALONE),
    Claim("both terms are better than either", "LTKD, Tab. 5", LTKD, (CROSS, WITHIN)),
    Claim("LTKD is above ReviewKD at any alpha and beta", "LTKD, Fig. 5", WEIGHTS, (Side("reviewkd"),)),
    Claim("more groups are better", "LTKD, text to Tab. 6", Side("ltkd", (("n_groups", MORE),)), (LTKD,), ("all",)),
    Claim("BKD beats its teacher", "BKD, Sec. 1", BKD, (Side(TEACHER),), SHOTS),
    Claim("BKD is above KD and CB", "BKD, Tab. 5", BKD, (Side("kd"), Side("cb")), SHOTS),
    Claim("BKD is above the student alone", "BKD, Tab. 1 to 5", BKD, (Side("ce"),), SHOTS),
    Claim("BKD is best at temperature 2", "BKD, Fig. 3", BKD, (Side("bkd", (("temperature", ANY),)),), ("all",)),
)
COLUMNS = ["claim", "where", "protocol", "dataset", "imbalance_factor", "teacher", "student", "better", "worse"]
COLUMNS += ["group", "published", "seeds", "difference", "low", "high", "boot_low", "boot_high", "verdict"]


def check(finished: Sequence[Run], claims: Iterable[Claim] = CLAIMS, *, epoch: str = "last") -> "pd.DataFrame":
    """Every claim in every setting with runs for it, one comparison in each row.

    finished: finished runs. epoch: 'last' or 'best'. `difference`: better − worse in points, the mean over `seeds`
    pairs, with its 95 % interval by Student's t (low, high) and by the bootstrap. `published`: the same difference in
    the papers, NaN if no table has both sides. Verdicts: holds (the interval is above zero), does not hold (below
    zero), undecided, not run. A claim without runs has one row `not run`, without a protocol; a setting with runs for
    `better` only has one for each side of `worse` that is missing.

    Raises RunError for runs of one seed with different training images.
    """
    import pandas as pd

    settings = _settings(finished)
    printed = _printed()
    rows = []
    for claim in claims:
        found = [
            {"claim": claim.text, "where": claim.where, **row}
            for setting, sides in settings.items()
            for row in _compared(claim, setting, sides, printed, epoch)
        ]
        worse = ", ".join(_name(side) for side in claim.worse)
        nothing = {"better": _name(claim.better), "worse": worse, "seeds": 0, "verdict": NOT_RUN}
        rows += found or [{"claim": claim.text, "where": claim.where, **nothing}]
    return pd.DataFrame(rows, columns=COLUMNS)


def verdicts(checked: "pd.DataFrame") -> "pd.DataFrame":
    """How often each verdict occurs in a result of `check`, one row for each claim and protocol."""
    kinds = checked.assign(protocol=checked.protocol.fillna(""))
    found = kinds.groupby(["claim", "protocol"], sort=False).verdict.value_counts().unstack(fill_value=0)
    return found.reindex(columns=[HOLDS, FAILS, UNDECIDED, NOT_RUN], fill_value=0).reset_index()


def _decided(difference: Paired) -> str:
    """The verdict on a claim. An interval of zero width decides nothing: on a small test set, all seeds may have the
    same difference by chance."""
    if difference.high - difference.low < ROUNDING:
        return UNDECIDED
    if difference.low > 0:
        return HOLDS
    return FAILS if difference.high < 0 else UNDECIDED


def order(finished: Sequence[Run], *, group: str = "all", epoch: str = "last") -> "pd.DataFrame":
    """The methods from best to worst in every setting with at least two: `ours`, over the seeds that all of them have;
    `papers`, from their tables; and Kendall's `tau` between both (1: the same order).

    group: a group of the classes, or 'all'. epoch: 'last' or 'best'.
    """
    import pandas as pd
    from scipy.stats import kendalltau

    printed, rows = _printed(), []
    for setting, sides in _settings(finished).items():
        values = {_name(side): _values(found, group, epoch) for side, found in sides.items() if found}
        frame = pd.DataFrame(values).dropna()
        if frame.shape[1] < 2 or frame.empty:
            continue
        means = frame.mean().sort_values(ascending=False)
        theirs = pd.Series({name: printed.get((*setting[1:], group, name)) for name in means.index}, dtype=float)
        theirs = theirs.dropna().sort_values(ascending=False)
        tau = kendalltau(means[theirs.index], theirs).statistic if len(theirs) > 1 else math.nan
        place = dict(zip(COLUMNS[2:7], setting, strict=True))
        shown = {"ours": " > ".join(means.index), "papers": " > ".join(theirs.index)}
        rows.append(place | {"group": group, "seeds": len(frame)} | shown | {"tau": tau})
    return pd.DataFrame(rows, columns=[*COLUMNS[2:7], "group", "seeds", "ours", "papers", "tau"])


# --- runs by setting ---------------------------------------------------------------------------------------------


def _settings(finished: Iterable[Run]) -> dict[Setting, Sides]:
    """The sides of each setting with a teacher: its students, and the teachers and students without a teacher that
    belong to it."""
    by_id = {run.config.id: run for run in finished}
    alone: dict[Setting, Sides] = {}
    settings: dict[Setting, Sides] = {}
    for run in by_id.values():
        config = run.config
        if config.teaches:
            continue
        place = alone if config.teacher is None else settings
        key = (protocol(config), config.dataset, config.imbalance_factor, config.teacher, config.student)
        side = (config.method, tuple(sorted(changes(config).items())))
        place.setdefault(key, {}).setdefault(side, {})[config.seeds] = run
    for (name, dataset, factor, _, student), sides in settings.items():
        for config in [run.config for runs in sides.values() for run in runs.values()]:
            named = config.teacher and not config.teacher.startswith(CUSTOM)
            if named and (teacher := by_id.get(config.for_teacher().id)):
                sides.setdefault((TEACHER, ()), {})[config.seeds] = teacher
        sides |= alone.get((name, dataset, factor, None, student), {})
        for pair in {pair for runs in sides.values() for pair in runs}:
            check_same_images([runs[pair] for runs in sides.values() if pair in runs])
    return {key: sides for setting in settings.items() for key, sides in _designs(*setting)}


def _designs(key: Setting, sides: Sides) -> Iterator[tuple[Setting, Sides]]:
    """The setting, split by the design of the subsets (see `runs.designs`)."""
    for subset, chosen in designs(list({pair for runs in sides.values() for pair in runs})).items():
        of_design = {side: {pair: run for pair, run in runs.items() if pair in chosen} for side, runs in sides.items()}
        yield (on_subset(key[0], subset), *key[1:]), {side: runs for side, runs in of_design.items() if runs}


def _compared(
    claim: Claim, setting: Setting, sides: Sides, printed: dict[tuple, float], epoch: str
) -> Iterator[dict[str, Any]]:
    """The rows of a claim in one setting."""
    own = dict(zip(("protocol", "dataset", "imbalance_factor", "teacher", "student"), setting, strict=True))
    for better, worse in _pairs(claim, sides):
        for group in claim.groups:
            values = [_values(sides[side], group, epoch) for side in (better, worse)]
            difference = paired(*values)
            if difference.n:
                names = {"better": _name(better), "worse": _name(worse), "group": group}
                place = (*setting[1:], group)
                gap = printed.get((*place, names["better"]), math.nan) - printed.get((*place, names["worse"]), math.nan)
                shown = {"published": gap, "seeds": difference.n, "difference": difference.mean}
                yield own | names | shown | difference._asdict() | {"verdict": _decided(difference)}
    for wanted in _missing(claim, sides):
        yield own | {"better": _name(claim.better), "worse": _name(wanted), "seeds": 0, "verdict": NOT_RUN}


def _pairs(claim: Claim, sides: Collection[Variant]) -> list[tuple[Variant, Variant]]:
    """The variants to compare: (better, worse)."""
    worse = [variant for side in claim.worse for variant in side.among(sides)]
    return [(one, other) for one in claim.better.among(sides) for other in worse if one != other]


def _missing(claim: Claim, sides: Collection[Variant]) -> list[Side]:
    """The worse sides of a claim without runs, if its better side has runs."""
    return [side for side in claim.worse if not side.among(sides)] if claim.better.among(sides) else []


def _values(runs: Mapping[Pair, Run], group: str, epoch: str) -> "pd.Series":
    """The accuracies of a group, by pair; runs without this group are dropped."""
    import pandas as pd

    values = {pair: run.result[epoch].get(group) for pair, run in runs.items()}
    return pd.Series({pair: value for pair, value in values.items() if value is not None}, dtype=float)


def _name(side: Side | Variant) -> str:
    method, changed = side
    shown = (f"{name}={value if isinstance(value, str) else format(value, 'g')}" for name, value in changed)
    return " ".join([method, *shown])


def _printed() -> dict[tuple, float]:
    """{(data set, imbalance factor, teacher, student, group, name of the side): accuracy} of all tables. A teacher, and
    a student without one, count for every pair of networks that they are part of."""
    frame = tables.read().drop_duplicates()
    settings = frame[["dataset", "imbalance_factor", "teacher", "student"]].drop_duplicates()
    pairs = [setting for setting in settings.itertuples(index=False) if setting.teacher and setting.student]
    found: dict[tuple, float] = {}
    for row in frame[frame.table != "bkd-5"].itertuples():  # it repeats the tables before it, rounded
        if (side := _printed_side(row)) is None:
            continue
        for pair in pairs:
            same_place = (pair.dataset, pair.imbalance_factor) == (row.dataset, row.imbalance_factor)
            if same_place and row.teacher in ("", pair.teacher) and row.student in ("", pair.student):
                found[(*pair, row.group, side)] = row.accuracy
    return found


def _printed_side(row: Any) -> str | None:
    """The name of the side in a row of a table; None if the row is not the accuracy of a run."""
    config = tables.config_of(row) if row.options else None
    if config is not None and row.method != TEACHER:
        return _name((row.method, tuple(sorted(changes(config).items()))))
    return row.method if row.method in {*METHODS, TEACHER} else None
