"""The papers' claims on runs with accuracies of our choice: what is paired with what, and what follows."""

from dataclasses import fields, replace

import pytest
from stand_ins import finished

from ltkd import RunConfig, RunError
from ltkd.cli import reports
from ltkd.reproduce import claims
from ltkd.reproduce.claims import CLAIMS, check

LTKD_1 = {"dataset": "cifar100", "imbalance_factor": 20.0, "teacher": "resnet32x4", "student": "resnet8x4"}


def made(method, seed=0, **settings):
    return RunConfig.make(
        **{"recipe": "cifar-crd", "imbalance_factor": 20.0, "method": method, "seed": seed} | settings
    )


def runs_of(method, values, **settings):
    return [finished(made(method, seed, **settings), value) for seed, value in enumerate(values)]


def claim(text, done, **wanted):
    frame = check(done)
    frame = frame[frame.claim == text]
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    return list(frame.itertuples())


def one(text, done, **wanted):
    (row,) = claim(text, done, **{"group": "all"} | wanted)
    return row


def test_without_runs_every_claim_is_not_run():
    frame = check([])
    assert frame.claim.tolist() == [each.text for each in CLAIMS]
    assert set(frame.verdict) == {"not run"}


@pytest.mark.parametrize(
    ("ltkd", "verdict"),
    [([60, 61, 62], "holds"), ([50, 51, 52], "does not hold"), ([54, 57, 56], "undecided"), ([60], "undecided")],
)
def test_the_verdict_follows_from_the_paired_interval(ltkd, verdict):
    row = one("LTKD is above every other distillation", runs_of("ltkd", ltkd) + runs_of("kd", [55, 56.1, 57.2]))
    assert (row.verdict, row.seeds, row.better, row.worse) == (verdict, len(ltkd), "ltkd", "kd")


def test_differences_are_of_the_same_seed():
    """Each alone varies by ten points, their difference by nothing to speak of."""
    row = one("LTKD is above every other distillation", runs_of("ltkd", [41, 51.1, 61]) + runs_of("kd", [40, 50, 60]))
    assert (row.verdict, row.low > 0.8, row.high < 1.3) == ("holds", True, True)


def test_the_difference_in_the_papers_stands_beside_ours():
    done = runs_of("ltkd", [60, 61]) + runs_of("dkd", [50, 51])
    row = one("LTKD is above every other distillation", done)
    assert row.published == pytest.approx(62.54 - 58.78)


def test_a_teacher_is_the_run_that_taught():
    done = runs_of("ltkd", [60, 61]) + [finished(made("kd", seed).for_teacher(), 58) for seed in (0, 1)]
    row = one("LTKD beats its teacher", done)
    assert (row.worse, row.seeds, row.difference) == ("teacher", 2, 2.5)
    assert row.published == pytest.approx(62.54 - 58.82)


def test_a_method_with_teachers_of_its_own_does_not_hide_the_teacher():
    done = runs_of("bkd", [60, 61], recipe="cifar-bkd") + runs_of("lfme", [50, 51], recipe="cifar-bkd")
    done += [finished(run.config.for_teacher(), 58) for run in done[:2]]
    assert one("BKD beats its teacher", done).difference == 2.5


def test_protocols_are_never_mixed():
    short = {"epochs": 20}
    done = runs_of("ltkd", [60, 61]) + runs_of("kd", [50, 51], **short) + runs_of("ltkd", [40, 41], **short)
    (row,) = claim("LTKD is above every other distillation", done, group="all")
    assert (row.protocol, row.difference) == ("cifar-crd, epochs = 20", -10)


def test_networks_factors_and_subsets_are_never_mixed():
    others = [{"teacher": "vgg13"}, {"imbalance_factor": 100.0}, {"subset_seed": 5}, {"student": "vgg8"}]
    for other in others:
        done = runs_of("ltkd", [60, 61]) + runs_of("kd", [50, 51], **other)
        assert {row.verdict for row in claim("LTKD is above every other distillation", done)} == {"not run"}, other


def test_a_run_on_some_classes_stands_beside_none_on_all():
    some = runs_of("kd", [70, 71], classes=(0, 1, 2))
    row = one("LTKD is above every other distillation", runs_of("ltkd", [60, 61]) + runs_of("kd", [50, 51]) + some)
    assert (row.protocol, row.difference) == ("cifar-crd", 10)
    assert {row.verdict for row in claim(row.claim, runs_of("ltkd", [60, 61]) + some)} == {"not run"}


OTHERWISE = {  # what tells a student's run from others, but for the options of its method
    "dataset": "cifar10",
    "imbalance_factor": 10.0,
    "dataset_version": "0123",
    "profile": (500,) * 99 + (7,),
    "subset_seed": 5,
    "image_size": 16,
    "held_out": 0.1,
    "classes": (0, 1, 2),
    "n_groups": 5,
    "teacher": "vgg13",
    "student": "vgg8",
    "method": "kd",
    "epochs": 20,
    "teacher_epochs": 20,
    "batch_size": 32,
    "lr": 0.1,
    "teacher_lr": 0.1,
    "lr_schedule": "cosine",
    "lr_warmup": 0.1,
    "milestones": (0.5,),
    "lr_decay": 0.2,
    "momentum": 0.8,
    "nesterov": True,
    "weight_decay": 1e-4,
    "precision": "bf16",
    "augmentation": "none",
    "normalization": "data",
    "test_every": 5,
    "seed": 1,
}


def test_whoever_adds_a_field_tries_it_here():
    assert {field.name for field in fields(RunConfig)} == {*OTHERWISE, "options", "teaches", "recipe"}


@pytest.mark.parametrize("name", OTHERWISE)
def test_no_two_runs_have_one_place(name):
    """So that none takes another's."""
    base = replace(made("ltkd"), profile=(500,) * 100)
    other = {"method": "kd", "options": {}} if name == "method" else {name: OTHERWISE[name]}
    done = [finished(base, 50), finished(replace(base, **other), 60)]
    assert sum(len(runs) for sides in claims._settings(done).values() for runs in sides.values()) == 2


def test_runs_of_a_seed_that_saw_other_images_are_refused():
    def saw(fingerprint, run):
        run.result["train_fingerprint"] = fingerprint
        return run

    ltkd, kd, old = (runs_of(method, [60, 61]) for method in ("ltkd", "kd", "dkd"))
    done = [saw(name, run) for side in (ltkd, kd) for name, run in zip("ab", side, strict=True)] + old
    assert len(claim("LTKD is above every other distillation", done, group="all", verdict="undecided")) == 2
    saw("c", kd[1])
    for question in (check, claims.order):
        with pytest.raises(RunError, match=f"{ltkd[1].config.name} and {kd[1].config.name} .* different training"):
            question(done)


def test_what_a_claim_was_not_held_against_is_said():
    rows = claim("BKD is above KD and CB", runs_of("bkd", [60, 62]) + runs_of("kd", [50, 51]))
    assert {(row.worse, row.verdict) for row in rows} == {("kd", "holds"), ("cb", "not run")}


def test_seeds_that_all_differ_by_the_same_decide_nothing():
    rows = claim("LTKD is above BKD", runs_of("ltkd", [60.2, 61.4, 59.8]) + runs_of("bkd", [50.0, 51.2, 49.6]))
    assert {(round(row.difference, 6), row.verdict) for row in rows} == {(10.2, "undecided")}


def test_a_term_that_is_above_kd_but_not_above_labels_alone_is_seen():
    done = runs_of("ltkd", [50, 52], alpha=0.0) + runs_of("kd", [40, 43]) + runs_of("ce", [55, 56])
    rows = claim("the within-group term helps alone", done)
    assert {(row.worse, row.difference > 0) for row in rows} == {("kd", True), ("ce", False)}


def test_fewer_groups_than_three_are_not_more():
    done = runs_of("ltkd", [60, 61]) + runs_of("ltkd", [40, 41], n_groups=1) + runs_of("ltkd", [62, 63], n_groups=10)
    row = one("more groups are better", done)
    assert (row.better, row.difference) == ("ltkd n_groups=10", 2)


def test_three_groups_are_the_recipe_s_even_where_somebody_says_so():
    row = one("LTKD is above BKD", runs_of("ltkd", [60, 61], n_groups=3) + runs_of("bkd", [50, 51]))
    assert row.difference == 10


def test_a_student_alone_is_compared_whoever_teaches_the_other():
    row = one("LTKD is above the student alone", runs_of("ltkd", [60, 61]) + runs_of("ce", [50, 51]))
    assert row.difference == 10


def test_each_component_is_found_by_its_options():
    done = runs_of("kd", [50, 51]) + runs_of("ltkd", [60, 61]) + runs_of("ltkd", [48, 49], beta=0.0)
    done += runs_of("ltkd", [55, 56], alpha=0.0) + runs_of("ltkd", [47, 48], beta=0.0, rebalanced=False)
    assert one("the cross-group term helps alone", done).difference == -2
    assert one("the cross-group term helps alone", done).published == pytest.approx(56.55 - 57.41)  # against its text
    assert one("the within-group term helps alone", done).difference == 5
    assert one("rebalancing the cross-group term helps", done).difference == 1
    both = claim("both terms are better than either", done, group="all")
    assert {row.worse: row.difference for row in both} == {"ltkd beta=0": 12, "ltkd alpha=0": 5}


def test_robustness_is_asked_of_every_weight_that_was_run_but_zero():
    done = runs_of("reviewkd", [50, 51]) + runs_of("ltkd", [60, 61]) + runs_of("ltkd", [49, 50], beta=1.0)
    done += runs_of("ltkd", [20, 21], beta=0.0)
    rows = claim("LTKD is above ReviewKD at any alpha and beta", done, group="all")
    assert {row.better: row.difference for row in rows} == {"ltkd": 10, "ltkd beta=1": -1}


def test_temperatures_and_numbers_of_groups_are_compared_with_the_usual():
    bkd = {"recipe": "cifar-bkd"}
    done = runs_of("bkd", [50, 51], **bkd) + runs_of("bkd", [48, 49], temperature=4.0, **bkd)
    assert one("BKD is best at temperature 2", done).difference == 2
    done = runs_of("ltkd", [50, 51]) + runs_of("ltkd", [51, 52], n_groups=10)
    assert one("more groups are better", done).better == "ltkd n_groups=10"


def test_an_option_that_is_a_word_has_a_name():
    done = runs_of("cb", [50, 51], recipe="cifar-bkd", reduction="mean") + runs_of("bkd", [52, 53], recipe="cifar-bkd")
    assert set(check(done).verdict) == {"not run"}  # that is another CB than the recipe's


def test_a_difference_that_rounds_to_nothing_has_no_minus():
    frame = check(runs_of("ltkd", [60.0, 60.0]) + runs_of("kd", [60.001, 60.003]))
    shown = reports.claims(frame[frame.verdict != "not run"]).iloc[0]
    assert (shown.difference, shown["95 % interval"]) == ("+0.00", "-0.01 to +0.01")


def test_verdicts_are_counted_by_claim_and_protocol():
    done = runs_of("ltkd", [60, 61, 62]) + runs_of("kd", [50, 51.1, 52])
    frame = claims.verdicts(check(done)).set_index("claim")
    assert frame.loc["LTKD is above every other distillation", ["protocol", "holds"]].tolist() == ["cifar-crd", 2]
    assert frame.loc["LTKD beats its teacher", "not run"] == 1


def test_the_order_of_methods_stands_beside_the_papers():
    done = [
        run for m, v in {"ltkd": 60, "dkd": 50, "reviewkd": 49, "ce": 55, "kd": 70}.items() for run in runs_of(m, [v])
    ]
    (row,) = claims.order(done).itertuples()
    assert row.ours == "kd > ltkd > ce > dkd > reviewkd"
    assert row.papers == "ltkd > reviewkd > dkd > kd > ce"  # 62.54, 59.17, 58.78, 57.41 (Tab. 5), 55.44
    assert row.tau == pytest.approx((4 - 6) / 10)  # of ten pairs, four stand the same way
