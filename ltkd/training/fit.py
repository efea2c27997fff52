"""Training: `fit` turns a RunConfig into a Run on disk, in one visible loop."""

import time
from datetime import UTC, datetime
from functools import partial

import torch

from .. import metrics
from .._support import distributed
from .._support.provenance import commit, hardware
from .._support.seeding import own_randomness
from ..config import CUSTOM
from ..errors import ConfigError, Interrupted, RunError
from ..methods import check_terms
from ..models import count_parameters
from ..runs import Run, checkpoint_bytes, predict
from .custom_objects import with_objects
from .history import ProgressBar, prefixed
from .setup import load_dataset, prepare, shape_of

CHECKPOINT_SECONDS = 5  # a kill costs at most this much training, and the epoch that follows


def fit(
    config,
    *,
    teacher=None,
    student=None,
    dataset=None,
    runs=None,
    data_root=None,
    device="auto",
    workers=None,
    cache="auto",
    step="auto",
    progress=True,
    callbacks=(),
):
    """Train the run that `config` describes, or load it if it is finished, or go on where it stopped.

    A teacher that the method needs and nobody hands over is trained first, as a run of its own. teacher, student:
    modules of your own, `forward(images) -> logits (B, C)`, used in place of the named ones (the student is copied).
    dataset: a LongTailedDataset of your own. runs: the folder of all runs. data_root: where data are looked for.
    device: 'auto', 'cpu', 'cuda', 'cuda:1', ... workers: processes that decode images on disk (default: one a core, at
    most 16). cache: whether a teacher is asked only once about each view of an image, and where its answers are kept:
    in 'memory' for this process, on 'disk' for others too, 'off', or 'auto', which is memory where that has room.
    step: how a step is taken: 'eager', as Python says it, 'graph', replayed from one CUDA graph, or 'auto', which is
    graph on a GPU where the graph proves itself (see stepping.py; the run's result says what came of it).
    progress: show bars. callbacks: called after every epoch as `callback(config, history)`, history being the list of
    rows so far.

    Returns the finished Run. Raises an LtkdError that says what is wrong; whatever was stored stays usable.
    """
    config = with_objects(config, teacher, student, dataset)
    run = Run.open(config, runs)
    if run.finished and not distributed.is_one_of_several():
        return run
    device = pick_device(distributed.own_device(device))
    how = {"device": device, "workers": workers, "cache": cache, "step": step}
    where = {"runs": runs, "data_root": data_root, "dataset": dataset}
    first = partial(fit, progress=progress, callbacks=callbacks, **where, **how)
    with distributed.group(device):
        if distributed.agreed(run.finished):
            return run
        data = load_dataset(config, data_root, dataset)
        job = prepare(config, data, teacher=teacher, student=student, train_first=first, **how)
        with distributed.by_first(run.claimed):  # after its teachers, which claim their own
            if not distributed.agreed(run.finished):  # by another program, in the meantime
                _train(run, job, data, progress, callbacks)
    if distributed.is_first() and not run.finished:
        raise RunError(f"{run.folder} was trained, but its result.json is gone; give the same command again to go on")
    return run


def _train(run, job, data, progress, callbacks):
    """From the state stored last, or from the beginning, to the finished run."""
    if distributed.is_first():
        run.start()
    history, seconds = _resume(run, job)
    stored_at, started = time.monotonic(), time.monotonic() - seconds
    kept = len(history), None  # an epoch, and the state after it where that is not stored yet
    config, epochs = job.config, job.schedule.epochs
    bar = ProgressBar(config, epochs, len(job.training), len(history), progress and distributed.is_first())
    try:
        for epoch in range(len(history) + 1, epochs + 1):
            with own_randomness(job.device, config.derived_seed("layers", epoch)):
                row = train_epoch(job, epoch, bar)
            if job.schedule.tests_after(epoch, config.test_every):
                logits = predict(job.student, job.test.plain())
                row |= prefixed("test_", metrics.report(logits, job.test.labels.numpy(), job.class_counts))
            history.append(row)
            bar.show(row)
            if epoch < epochs:
                job.method.end_epoch(job.student.eval(), job.held_out)
                state = job.state() | {"history": history, "seconds": time.monotonic() - started}
                kept = epoch, checkpoint_bytes(state)
                if time.monotonic() - stored_at >= CHECKPOINT_SECONDS and distributed.is_first():
                    run.save_checkpoint(kept[1])
                    stored_at = time.monotonic()
            for callback in callbacks if distributed.is_first() else ():
                callback(config, history)
    except KeyboardInterrupt:
        epoch, state = kept
        if state is not None and distributed.is_first():
            run.save_checkpoint(state)
        raise _interrupted(run, epoch + 1, epochs) from None
    finally:
        bar.close()
    _finish(run, job, data, history, logits, time.monotonic() - started)


def train_epoch(job, epoch, bar):
    """One pass over the training set; returns the epoch's row of the history."""
    started, lr = time.monotonic(), job.schedule.rate(epoch)
    job.set_rate(lr)
    job.record.clear()
    job.method.set_mode(job.student)
    for inputs in job.inputs(epoch):
        job.stepper(train_step, job, inputs)
        bar.update(inputs.size)
    return {"epoch": epoch, "lr": lr, "seconds": time.monotonic() - started, **job.record.row(epoch)}


def train_step(job, inputs):
    """What is done with a batch. It never waits for the device, and from one batch to the next nothing differs but the
    values of tensors: a GPU can do all of it as one CUDA graph."""
    step = job.step(inputs)
    terms = job.terms(step)
    check_terms(job.method, terms)
    job.optimizer.zero_grad()
    (distributed.weight(step.labels) * sum(terms.values())).backward()
    job.optimizer.step()
    job.record.add(step, terms)


def _finish(run, job, data, history, logits, seconds):
    if distributed.is_first():
        result = _result(job, data, history, seconds)
        run.finish(job.student, logits, job.test.labels.numpy(), job.class_counts, history, result)
    distributed.wait()


def _interrupted(run, epoch, epochs):
    stored = f"the state after epoch {epoch - 1} is stored in {run.folder}" if epoch > 1 else "no epoch was stored yet"
    return Interrupted(f"stopped in epoch {epoch} of {epochs}; {stored}. Give the same command again to go on")


def pick_device(name):
    """The torch.device called `name`; 'auto' is the first GPU, else the CPU. Raises ConfigError if it is not there."""
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise ConfigError(f"device {str(name)!r} is not there; this machine has {', '.join(['cpu', *gpus])}") from error
    return device


def _resume(run, job):
    """Load what was stored; returns the history so far and the seconds it took."""
    state = run.load_checkpoint()
    if state is None:
        return [], 0.0
    job.load(state)
    return state["history"], state["seconds"]


def _result(job, data, history, seconds):
    tested = [row for row in history if row.get("test_all") is not None]
    best = max(tested, key=lambda row: row["test_all"])
    config = job.config
    return {
        "name": config.name,
        "last": _reported(history[-1]),
        "best": _reported(best),
        "tested_epochs": len(tested),
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
        "teacher_cache": job.memory.note,
        "step": job.stepper.note,
        **_built_on(job),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware(job.device),
        "commit": commit(),
    }


def _built_on(job):
    """The names of the runs that this one needed."""
    config, names = job.config, {}
    if config.teacher and not config.teacher.startswith(CUSTOM):
        specs = job.method.teachers().items()
        names = {f"{name}_run": config.for_teacher(spec).name for name, spec in specs}
    if job.method.parent:
        names["parent_run"] = config.for_parent().name
    return names


def _reported(row):
    accuracies = {key.removeprefix("test_"): value for key, value in row.items() if key.startswith("test_")}
    return {"epoch": row["epoch"], **accuracies}
