"""What the papers say in words, held against whatever runs are at hand: each claim as paired differences over seeds.

A claim is checked apart under every protocol, data set, imbalance factor and pair of networks, and every answer says
which. Only runs of the same seed are compared: they saw the same subset, and the same teacher. Runs of one seed whose
results say that they saw different images are refused.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

from ..config import CUSTOM
from ..methods import METHODS
from ..runs import designs
from . import tables
from .compare import NOT_RUN, changes, on_subset, protocol
from .paired import check_same_images, paired
from .tables import TEACHER

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
NOTE = (
    "Each difference is a mean over seeds, with an interval of its own: the chance that lies in the test images is not "
    "in it, and of twenty comparisons in which nothing differs about one comes out decided."
)
ROUNDING = 1e-9  # points
ANY = "any"  # as options: every value that was run
MORE = "more"  # as an option: every value that was run above the recipe's number of groups, three
PEERS = ("kd", "dkd", "reviewkd", "dist", "catkd")


class Side(NamedTuple):
    """One side of a comparison: a method, and the options in which it differs from the recipe's. `ANY` as an option's
    value stands for every value that was run, the recipe's too, but for 0, which leaves a term out; `MORE` for every
    one above three."""

    method: str
    options: tuple = ()

    def covers(self, method, changed):
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
    """text: in our words; where: of which paper; better is above each of worse, in each of the groups."""

    text: str
    where: str
    better: Side
    worse: tuple
    groups: tuple = ("tail", "all")


LTKD, BKD = Side("ltkd"), Side("bkd")
CROSS, WITHIN = Side("ltkd", (("beta", 0.0),)), Side("ltkd", (("alpha", 0.0),))
BIASED = Side("ltkd", (("beta", 0.0), ("rebalanced", False)))
WEIGHTS = Side("ltkd", (("alpha", ANY), ("beta", ANY)))
ALONE = (Side("kd"), Side("ce"))  # KD weighs the labels less than LTKD does, and may be below learning from them alone
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


def check(finished, claims=CLAIMS, *, epoch="last"):
    """Every claim on every protocol and setting that has runs for it (DataFrame), one row a comparison.

    `difference`: better − worse in points, the mean over `seeds` pairs, with its 95 % interval by Student's t (low,
    high) and by the bootstrap; `published`: the same difference in the papers, where one of their tables has both.
    Verdict: holds (the interval is above zero), does not hold (below), undecided, not run: a claim that nothing was run
    for has one such row, without a protocol; where one side was run, so has each method that it was not held against.
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
        worse = ", ".join(map(_name, claim.worse))
        nothing = {"better": _name(claim.better), "worse": worse, "seeds": 0, "verdict": NOT_RUN}
        rows += found or [{"claim": claim.text, "where": claim.where, **nothing}]
    return pd.DataFrame(rows, columns=COLUMNS)


def verdicts(checked):
    """One row a claim and protocol (DataFrame): in how many comparisons it holds, does not hold, is undecided."""
    kinds = checked.assign(protocol=checked.protocol.fillna(""))
    found = kinds.groupby(["claim", "protocol"], sort=False).verdict.value_counts().unstack(fill_value=0)
    return found.reindex(columns=[HOLDS, FAILS, UNDECIDED, NOT_RUN], fill_value=0).reset_index()


def _decided(difference):
    """What a Paired says of a claim. Seeds that all differ by the same have told the same images right by chance, as
    happens on small test sets: an interval of no width, but for rounding, says nothing."""
    if difference.high - difference.low < ROUNDING:
        return UNDECIDED
    if difference.low > 0:
        return HOLDS
    return FAILS if difference.high < 0 else UNDECIDED


def order(finished, *, group="all", epoch="last"):
    """The methods from best to worst in every setting that has two or more (DataFrame): `ours`, over the seeds that all
    of them have, `papers`, where a table prints the setting, and Kendall's `tau` between both (1: the same order)."""
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


# --- runs by what they may be compared with ----------------------------------------------------------------------


def _settings(finished):
    """{(protocol, data set, imbalance factor, teacher, student): {(method, its changes): {(subset_seed, seed): run}}}
    of the students with a teacher, and beside them the students alone and the teachers of the same seeds."""
    by_id = {run.config.id: run for run in finished}
    alone, settings = {}, {}
    for run in by_id.values():
        config = run.config
        if config.teaches:
            continue
        place = alone if config.teacher is None else settings
        key = (protocol(config), config.dataset, config.imbalance_factor, config.teacher, config.student)
        side = (config.method, tuple(sorted(changes(config).items())))
        place.setdefault(key, {}).setdefault(side, {})[_pair(config)] = run
    for (name, dataset, factor, _, student), sides in settings.items():
        for config in [run.config for runs in sides.values() for run in runs.values()]:
            named = not config.teacher.startswith(CUSTOM)
            if named and (teacher := by_id.get(config.for_teacher().id)):
                sides.setdefault((TEACHER, ()), {})[_pair(config)] = teacher
        sides |= alone.get((name, dataset, factor, None, student), {})
        for pair in {pair for runs in sides.values() for pair in runs}:
            check_same_images([runs[pair] for runs in sides.values() if pair in runs])
    return {key: sides for setting in settings.items() for key, sides in _designs(*setting)}


def _pair(config):
    return config.subset_seed, config.seed


def _designs(key, sides):
    """A setting once for each way in which its runs drew their subsets; one that is not the recipe's is named."""
    for subset, chosen in designs({pair for runs in sides.values() for pair in runs}).items():
        of_design = {side: {pair: run for pair, run in runs.items() if pair in chosen} for side, runs in sides.items()}
        yield (on_subset(key[0], subset), *key[1:]), {side: runs for side, runs in of_design.items() if runs}


def _compared(claim, setting, sides, printed, epoch):
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


def _pairs(claim, sides):
    chosen = {side: dict(side[1]) for side in sides}
    for better in [side for side, changed in chosen.items() if claim.better.covers(side[0], changed)]:
        for wanted in claim.worse:
            for worse in [side for side, changed in chosen.items() if wanted.covers(side[0], changed)]:
                if worse != better:
                    yield better, worse


def _missing(claim, sides):
    """What a claim's better side was not held against."""
    chosen = [(method, dict(changed)) for method, changed in sides]
    if not any(claim.better.covers(*side) for side in chosen):
        return []
    return [wanted for wanted in claim.worse if not any(wanted.covers(*side) for side in chosen)]


def _values(runs, group, epoch):
    import pandas as pd

    values = {pair: run.result[epoch].get(group) for pair, run in runs.items()}
    return pd.Series({pair: value for pair, value in values.items() if value is not None}, dtype=float)


def _name(side):
    method, changed = side
    shown = (f"{name}={value if isinstance(value, str) else format(value, 'g')}" for name, value in changed)
    return " ".join([method, *shown])


def _printed():
    """{(data set, imbalance factor, teacher, student, group, side): accuracy} of all tables. A student alone and a
    teacher stand under every pair of networks that they are part of."""
    frame = tables.read().drop_duplicates()
    settings = frame[["dataset", "imbalance_factor", "teacher", "student"]].drop_duplicates()
    pairs = [setting for setting in settings.itertuples(index=False) if setting.teacher and setting.student]
    found = {}
    for row in frame[frame.table != "bkd-5"].itertuples():  # which repeats the tables before it, rounded
        if (side := _printed_side(row)) is None:
            continue
        for pair in pairs:
            same_place = (pair.dataset, pair.imbalance_factor) == (row.dataset, row.imbalance_factor)
            if same_place and row.teacher in ("", pair.teacher) and row.student in ("", pair.student):
                found[(*pair, row.group, side)] = row.accuracy
    return found


def _printed_side(row):
    """The name of a row's method among the sides of a comparison; None for what is no run's accuracy."""
    if row.method == TEACHER or not row.options:
        return row.method if row.method in {*METHODS, TEACHER} else None
    return _name((row.method, tuple(sorted(changes(tables.config_of(row)).items()))))
