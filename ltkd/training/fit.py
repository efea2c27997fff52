"""Training: `fit` turns a RunConfig into a Run on disk, in one visible loop."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import metrics
from .._support import distributed
from .._support.ambient import torch_defaults
from .._support.callbacks import notify
from .._support.fingerprint import unwrapped
from .._support.provenance import commit, hardware
from .._support.seeding import own_randomness
from .._support.settings import Setting
from ..config import RunConfig
from ..datasets import LongTailedDataset
from ..datasets.registry import data_root as data_folder
from ..errors import ConfigError, Interrupted, ResultWarning, RunError, TimeUp, shown, warn
from ..methods import check_terms
from ..models import count_parameters
from ..runs import Run, checkpoint_bytes, predict
from .custom_objects import with_objects
from .deadline import Deadline
from .history import ProgressBar, prefixed
from .setup import Job, load_dataset, prepare, shape_of
from .teacher_cache import CACHES

CHECKPOINT_SECONDS = 5  # a killed process loses at most this much training and one epoch

Callback = Callable[[RunConfig, list[dict[str, Any]]], None]

ARGUMENTS: dict[str, Setting[Any]] = {  # of `fit`, which do not determine the numbers
    "workers": Setting(None, "processes that decode image files (default: one per core)", low=0, kind=int | None),
    "cache": Setting("auto", choices=CACHES),
    "until": Setting(None, kind=float | None),
    **{switch: Setting(False) for switch in ("compile", "progress", "retrain", "weights")},
}


@torch_defaults()
def fit(
    config: RunConfig,
    *,
    teacher: nn.Module | None = None,
    student: nn.Module | None = None,
    dataset: LongTailedDataset | None = None,
    runs: str | Path | None = None,
    data_root: str | Path | None = None,
    device: str | torch.device = "auto",
    workers: int | None = None,
    cache: str = "auto",
    compile: bool = False,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    until: float | None = None,
    retrain: bool = False,
    weights: bool = False,
) -> Run:
    """Train the run that `config` describes; resume it if it was stopped, load it if it is finished.

    The runs that it builds on (teachers, or the stage of training before it) are trained first, as runs of their own.

    Args:
        config: everything that determines the result.
        teacher, student: your own modules, used instead of the named networks: images (B, channels, side, side) ->
            logits (B, C). Both are copied, without the wrappers of torch.compile and DataParallel.
        dataset: your own data set, used instead of the named one. If `RunConfig.make` was given neither a recipe nor a
            data set, the recipe is then `folder`.
        runs: the folder of all runs (default: LTKD_RUNS, else `runs`).
        data_root: the folder of the data sets (default: LTKD_DATA, else `data/downloads`).
        device: 'auto', 'cpu', 'cuda', 'cuda:1', ...
        workers: number of processes that decode images on disk (default: one for each core, at most 16).
        cache: where the logits of a frozen teacher are stored, so that each view of an image is computed once: 'memory'
            (of this process), 'disk' (shared by processes), 'off', or 'auto' (memory, if they fit).
        compile: use torch.compile; on a GPU with CUDA graphs. The last bits of the numbers then differ from those of an
            eager run. `compiled` in the result is its mode, or the modes if the run was stopped and resumed otherwise.
        progress: show a progress bar.
        callbacks: functions `callback(config, history)`, called after every epoch; history is a list of all rows. The
            error of a callback is a warning, and the training goes on; to stop it as Ctrl-C does, raise
            `ltkd.Interrupted("why")`.
        until: when to stop, in seconds since 1970.
        retrain: train this run again even if it is finished, but not the runs that it builds on. The old result is kept
            until the new one replaces it. A stopped retraining goes on with retrain=True.
        weights: train a finished run again if its weights are not stored, as after an import.

    Returns the finished run. Raises ConfigError, DataError or RunError if a setting, the data or the store is at fault;
    Interrupted after Ctrl-C or if a callback raised it, and TimeUp at `until`: the last finished epoch is stored then.

    >>> import ltkd, tempfile
    >>> config = ltkd.RunConfig.make(method="ltkd", epochs=1, teacher_epochs=1)
    >>> run = ltkd.fit(config, runs=tempfile.mkdtemp(), progress=False)
    >>> sorted(run.result["last"])[:4]
    ['all', 'balanced', 'epoch', 'few_shot']
    """
    config = with_objects(config, teacher, student, dataset)
    teacher, student = unwrapped(teacher), unwrapped(student)
    switches = {"compile": compile, "progress": progress, "retrain": retrain, "weights": weights}
    check_arguments(data_root=data_root, workers=workers, cache=cache, callbacks=callbacks, until=until, **switches)
    device = pick_device(distributed.own_device(device))
    run = Run.open(config, runs)
    if _is_done(run, weights, retrain) and not distributed.is_one_of_several():
        return run
    deadline = Deadline(until)
    how: dict[str, Any] = {"device": device, "workers": workers, "cache": cache, "compile": compile}
    with distributed.group(device):
        if distributed.agreed(_is_done(run, weights, retrain)):
            return run
        data = load_dataset(config.data, data_root, dataset)
        before = {}
        where: dict[str, Any] = {"runs": runs, "data_root": data_root, "dataset": dataset, "until": until}
        for role, first in config.builds_on(data.class_counts).items():
            own = _objects_of(role, first, teacher, student)
            before[role] = fit(first, **own, **where, **how, progress=progress, callbacks=callbacks, weights=True)
        job = prepare(config, data, before=before, teacher=teacher, student=student, deadline=deadline, **how)
        with distributed.by_first(run.claimed, deadline.check):
            if not distributed.agreed(_is_done(run, weights, retrain)):  # another process may have finished it
                _train(run, job, data, progress, callbacks)
    if distributed.is_first() and not run.finished:
        raise RunError(f"{run.folder} was trained, but its result.json is gone; give the same command again to go on")
    return run


def check_arguments(**given: Any) -> None:
    """Raise ConfigError for an argument of `fit` that is not allowed, though a finished run would not use it."""
    for name in ARGUMENTS.keys() & given.keys():
        ARGUMENTS[name].check(name, given[name])
    data_folder(given.get("data_root"))
    callbacks = given.get("callbacks", ())
    if not isinstance(callbacks, list | tuple) or not all(map(callable, callbacks)):
        raise ConfigError(f"callbacks = {shown(callbacks)}: must be a list of functions callback(config, history)")


def _is_done(run: Run, weights: bool, retrain: bool) -> bool:
    """True if nothing is left to train."""
    return run.finished and not retrain and (run.has_weights or not weights)


def _objects_of(role: str, config: RunConfig, teacher: nn.Module | None, student: nn.Module | None) -> dict[str, Any]:
    """The caller's own modules that a run trained first uses: both for the stage before, none for a teacher."""
    if role != "parent":
        return {}
    return {"student": student, "teacher": teacher if config.teacher is not None else None}


def _train(run: Run, job: Job, data: LongTailedDataset, progress: bool, callbacks: Sequence[Callback]) -> None:
    """Train from the last stored epoch, or from the beginning, and finish the run."""
    config, epochs, first = job.config, job.schedule.epochs, distributed.is_first()
    if first:
        run.start()
    history, seconds = _resume(run, job)
    stored_at, started = time.monotonic(), time.monotonic() - seconds
    # The last finished epoch, and the state after it; None where nothing is to be stored.
    kept: tuple[int, bytes | None] = len(history), None
    bar = ProgressBar(config, epochs, len(job.training), len(history), progress and first)
    try:
        for epoch in range(len(history) + 1, epochs + 1):
            row = train_epoch(job, epoch, bar)
            if job.schedule.tests_after(epoch, config.test_every):
                logits = predict(job.student, job.test.plain())
                row |= prefixed("test_", metrics.report(logits, job.test.labels.numpy(), job.class_counts))
            history.append(row)
            bar.show(row)
            if epoch < epochs:
                job.method.end_epoch(job.student.eval(), job.held_out)
                state = job.state() | {"history": history, "seconds": time.monotonic() - started}
                checkpoint = checkpoint_bytes(state)
                kept = epoch, checkpoint
                if time.monotonic() - stored_at >= CHECKPOINT_SECONDS and first:
                    run.save_checkpoint(checkpoint)
                    stored_at = time.monotonic()
            for callback in callbacks if first else ():
                notify(callback, config, [{**row} for row in history])
    except (KeyboardInterrupt, Interrupted) as stop:
        epoch, unsaved = kept
        if unsaved is not None and first:
            run.save_checkpoint(unsaved)
        raise _interrupted(stop, run, epoch + 1, epochs) from None
    finally:
        bar.close()
    if first:
        counts = metrics.count(logits, job.test.labels.numpy())
        result = _result(job, data, history, counts, time.monotonic() - started)
        run.finish(job.student, logits, job.test.labels.numpy(), job.class_counts, history, result)
        if (collapsed := metrics.unanswered(counts)) is not None:
            warn(f"{config.name}: {collapsed}", ResultWarning)
    distributed.wait()


def train_epoch(job: Job, epoch: int, bar: ProgressBar) -> dict[str, Any]:
    """One pass over the training set; returns the epoch's row of the history.

    Nothing in the loop waits for the device: the sums of the epoch stay there until its end.
    """
    started, lr = time.monotonic(), job.schedule.rate(epoch)
    job.begin_epoch(lr)
    with own_randomness(job.device, job.config.derived_seed("layers", epoch)):
        for step in job.steps(epoch):  # a batch: augmented images, labels, teacher logits
            with job.autocast():
                terms = job.loss_terms(step)  # Method.forward; LTKD: Distillation.forward, then LTKD.distill
            check_terms(job.method, terms)
            loss = sum(terms.values())
            job.optimizer.zero_grad()
            (distributed.weight(step.labels) * loss).backward()
            job.optimizer.step()
            job.record.add(step, terms)
            bar.update(len(step.labels))
    return {"epoch": epoch, "lr": lr, "seconds": time.monotonic() - started, **job.record.row(epoch)}


def _interrupted(stop: BaseException, run: Run, epoch: int, epochs: int) -> Interrupted:
    """The error for a stop in this epoch."""
    stored = f"the state after epoch {epoch - 1} is stored in {run.folder}" if epoch > 1 else "no epoch was stored yet"
    kind = TimeUp if isinstance(stop, TimeUp) else Interrupted
    why = f"{stop}: " if str(stop) else ""
    return kind(f"{why}stopped in epoch {epoch} of {epochs}; {stored}. Give the same command again to go on")


def pick_device(name: str | torch.device) -> torch.device:
    """The torch.device called `name`; 'auto' is the first GPU, else the CPU. Raises ConfigError if it is missing."""
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise ConfigError(f"there is no device {name!r}; this machine has {', '.join(['cpu', *gpus])}") from error
    return device


def _resume(run: Run, job: Job) -> tuple[list[dict[str, Any]], float]:
    """Load the stored state, if there is one; returns the history so far and its seconds."""
    state = run.load_checkpoint()
    if state is None:
        return [], 0.0
    try:
        job.load(state)
        return state["history"], state["seconds"]
    except Exception as error:  # the state may hold anything
        file = run.folder / "checkpoint.pt"
        raise RunError(f"{file} is no training state of this run ({error}); remove it to train from epoch 1") from error


def _result(
    job: Job, data: LongTailedDataset, history: list[dict[str, Any]], counts: metrics.Counts, seconds: float
) -> dict[str, Any]:
    """The content of result.json. counts: of the test images after the last epoch."""
    tested = [row for row in history if row.get("test_balanced") is not None]
    best = max(tested, key=lambda row: row["test_balanced"])
    config = job.config
    return {
        "name": config.name,
        "last": _reported(history[-1]),
        "best": _reported(best),
        "tested_epochs": len(tested),
        "per_class": counts.rounded(),
        "remarks": [*metrics.remarks(counts), *_of_teachers(job)],
        "teachers": job.teacher_scores,
        "recipe": config.recipe,
        "overrides": config.overrides(),
        "assumptions": config.assumptions(),
        "shape": shape_of(data),
        "class_names": list(data.class_names),
        "groups": list(job.groups.names),
        "train_images": len(job.training),
        "train_fingerprint": data.train.fingerprint(),
        "source": data.source,
        "normalization": {"mean": job.normalize.mean, "std": job.normalize.std},
        "parameters": count_parameters(job.student),
        "seconds": round(seconds, 2),
        "teacher_cache": job.teacher_cache.note,
        "compiled": job.modes[0] if len(job.modes) == 1 else job.modes,
        **{f"{role}_run": name for role, name in job.before.items()},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(job.device),
        "commit": commit(),
    }


def _of_teachers(job: Job) -> list[str]:
    return [f"the {name}: {each}" for name, scores in job.teacher_scores.items() for each in scores["remarks"]]


def _reported(row: dict[str, Any]) -> dict[str, Any]:
    """The epoch and the test accuracies of a row of the history."""
    accuracies = {key.removeprefix("test_"): value for key, value in row.items() if key.startswith("test_")}
    return {"epoch": row["epoch"], **accuracies}
