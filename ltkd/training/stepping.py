"""How the steps of a run are taken: each as Python says it, or, on a GPU, replayed from one CUDA graph.

A batch of small images keeps a GPU busy for less time than Python takes to ask for its hundreds of kernels. A graph
asks for all of them at once: a step is written down once, with the addresses of all that it reads and changes, and
replayed on whatever lies there. The learning rate and the inputs of a step are copied to where it looks for them; the
last, smaller batch of an epoch is taken as Python says it.

No GPU was at hand when this was written: the capture itself has not been run by us. So a graph proves itself in every
run. The first steps are taken eagerly, on a stream of their own, as CUDA asks; they must not wait for the device, nor
change anything but the values of tensors. After the capture the next step is taken both ways from the same state, and
must come to the same. Where anything fails, the state is put back, and the run goes on eagerly and says why.
"""

import math
import warnings
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from .._support import distributed
from ..errors import ConfigError, LtkdError, RunError, unknown

STEPS = ("auto", "eager", "graph")
WARM_UPS = 3  # steps before the capture
OWN_TOLERANCE = 1e-2  # of how far a tensor moves in a step: sums in another order differ by much less
COMMON_TOLERANCE = 1e-4  # of how far all of its kind move, for tensors that are moved by rounding alone
HELD_FAST = (bool, int, float, str)  # attributes of layers that a graph holds fast


def stepper(how, training, device):
    """What takes the steps of a run. how: one of STEPS; training: the feed of the training images."""
    if how not in STEPS:
        raise unknown("step", how, STEPS)
    problem = _problem(training, device)
    if how == "graph" and problem:
        raise ConfigError(f"step = 'graph': {problem}; use step = 'auto' or 'eager'")
    if how == "eager" or problem:
        return Eager("eager" if how == "eager" else f"eager: {problem}")
    return Graphed(Gpu(device), must=how == "graph")


def _problem(training, device):
    """Why no step can be captured; None where it may be."""
    if device.type != "cuda":
        return "there is no GPU"
    if distributed.world_size() > 1:
        return "several processes train the run"
    if training.views is None:
        return "the images come from disk"
    return None


class Eager:
    """Takes every step as Python says it. note: how the steps were taken, in words."""

    def __init__(self, note):
        self.note = note

    def __call__(self, function, job, inputs):
        """Do what function(job, inputs) does."""
        function(job, inputs)


class Graphed:
    """Takes the first steps eagerly, captures one, has it prove itself, and from then on replays it.

    gpu: a Gpu; must: raise RunError where there is no graph. note: as Eager's.
    """

    def __init__(self, gpu, *, must):
        self.note = "eager: the run is too short for a graph"
        self._gpu, self._must, self._given_up, self._rates = gpu, must, False, None
        self._start_over()

    def _start_over(self):
        self._taken, self._inputs, self._form, self._replay, self._proven = 0, None, None, None, False

    def __call__(self, function, job, inputs):
        """Do what function(job, inputs) does."""
        if self._given_up:
            return function(job, inputs)
        if not torch.is_tensor(job.optimizer.param_groups[0]["lr"]):  # it was set anew: an epoch begins
            self._begin_epoch(job)
        if self._inputs is None:
            self._inputs = _copy_of(inputs)
        if inputs.size != self._inputs.size:
            return function(job, inputs)
        for kept, value in zip(_tensors(self._inputs), _tensors(inputs), strict=True):
            kept.copy_(value)
        if self._proven:
            return self._replay()
        return self._prepare(partial(function, job, self._inputs), job)

    def _begin_epoch(self, job):
        groups = job.optimizer.param_groups
        self._rates = self._rates or [torch.zeros((), device=job.device) for _ in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group |= {"lr": rate.fill_(group["lr"]), "fused": self._gpu.fused}
        if self._replay and _form(job) != self._form:
            self._start_over()

    def _prepare(self, step, job):
        """A step on the way to a graph that can be trusted."""
        before = _State(job, self._gpu)
        try:
            if self._replay:
                self._prove(step, job, before)
            else:
                self._warm_up(step, job)
        except LtkdError:
            raise
        except Exception as error:  # torch, CUDA and a method of the user's raise anything
            before.restore(job)
            self._give_up(job, error)
            step()

    def _warm_up(self, step, job):
        self._taken += 1
        if self._taken < WARM_UPS:
            with self._gpu.aside():
                step()
            return
        self._form = _form(job)
        with self._gpu.aside(), self._gpu.watched() as faults:
            step()
        if faults:
            raise _NoGraphError(faults[0])
        if _form(job) != self._form:
            raise _NoGraphError("a step changes more than the values of tensors")
        job.optimizer.zero_grad()
        self._replay = self._gpu.capture(step)

    def _prove(self, step, job, before):
        step()
        expected = _State(job, self._gpu)
        before.restore(job)
        self._replay()
        if difference := _difference(before, expected, _State(job, self._gpu)):
            raise _NoGraphError(difference)
        self._proven, self.note = True, "cuda graph"

    def _give_up(self, job, error):
        why = str(error) if isinstance(error, _NoGraphError) else f"{type(error).__name__}: {error}"
        why = why.splitlines()[0]
        if self._must:
            raise RunError(f"step = 'graph': {why}; use step = 'auto' or 'eager'") from error
        self._start_over()
        self.note, self._given_up = f"eager: {why}", True
        for group in job.optimizer.param_groups:
            group |= {"lr": float(group["lr"]), "fused": None}


class _NoGraphError(Exception):
    """Why a step cannot be captured."""


class Gpu:
    """What only a GPU can do for a Graphed."""

    fused = True  # of torch's ways to update, this one reads the learning rate on the device

    def __init__(self, device):
        self._device, self._stream = device, torch.cuda.Stream(device)

    @contextmanager
    def aside(self):
        """On a stream of its own."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            current.wait_stream(self._stream)

    @contextmanager
    def watched(self):
        """Lists what cannot be captured: where the host waits for the device, and random numbers drawn by the host."""
        faults, mode, drawn = [], torch.cuda.get_sync_debug_mode(), torch.random.get_rng_state()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield faults
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        waits = [each for each in caught if "called a synchronizing" in str(each.message)]
        faults += [f"a step waits for the GPU in {Path(each.filename).name}, line {each.lineno}" for each in waits]
        if not torch.equal(drawn, torch.random.get_rng_state()):
            faults.append("a step draws random numbers on the CPU")

    def capture(self, step):
        """Write down what step() does; returns the function that does it again."""
        graph = torch.cuda.CUDAGraph()
        try:
            with self.aside(), torch.cuda.graph(graph, stream=self._stream):
                step()
        except Exception:
            # The generator may still believe that it is being captured: what draws from it next would fail.
            generator = self._generator()
            generator.graphsafe_set_state(generator.clone_state())
            raise
        return graph.replay

    def random_state(self):
        """The state of the generator of layers that draw for themselves."""
        return torch.cuda.get_rng_state(self._device)

    def set_random_state(self, state):
        torch.cuda.set_rng_state(state, self._device)

    def _generator(self):
        index = torch.cuda.current_device() if self._device.index is None else self._device.index
        return torch.cuda.default_generators[index]


# --- what a step reads and changes -------------------------------------------------------------------------------


def _tensors(inputs):
    return [inputs.epoch, *(part for shown in inputs.streams.values() for part in (shown.indices, shown.views))]


def _copy_of(inputs):
    streams = {
        name: shown._replace(indices=shown.indices.clone(), views=shown.views.clone())
        for name, shown in inputs.streams.items()
    }
    return inputs._replace(epoch=inputs.epoch.clone(), streams=streams)


def _changing(job):
    """All tensors that a step may change: {(kind, name): tensor}."""
    found = {}
    for part, module in (("student", job.student), ("method", job.method)):
        found |= {("weights", f"{part}.{name}"): value for name, value in module.named_parameters()}
        found |= {("statistics", f"{part}.{name}"): value for name, value in module.named_buffers()}
    for g, group in enumerate(job.optimizer.param_groups):
        for i, parameter in enumerate(group["params"]):
            state = job.optimizer.state.get(parameter, {})
            found |= {("optimizer", f"{name} {g}.{i}"): v for name, v in state.items() if torch.is_tensor(v)}
    return found | {("record", name): value for name, value in job.record.tensors().items()}


def _form(job):
    """What a graph holds fast: where tensors lie, which of them learn, and every plain attribute of every layer."""
    networks = [job.student, job.method, *job.teachers.values()]
    tensors = [*_changing(job).values(), *(t for each in networks for t in (*each.parameters(), *each.buffers()))]
    layers = [vars(layer) for network in networks for layer in network.modules()]
    plain = [{name: value for name, value in layer.items() if isinstance(value, HELD_FAST)} for layer in layers]
    return [(tensor.data_ptr(), tensor.requires_grad) for tensor in tensors], plain


class _State:
    """A copy of all that a step changes."""

    def __init__(self, job, gpu):
        self._gpu, self._random = gpu, gpu.random_state()
        self.values = {name: tensor.detach().clone() for name, tensor in _changing(job).items()}

    @torch.no_grad()
    def restore(self, job):
        """Put it back to where it was; what was made since, sums and momentum, is zero, as it was in effect."""
        for name, tensor in _changing(job).items():
            tensor.copy_(self.values[name]) if name in self.values else tensor.zero_()
        self._gpu.set_random_state(self._random)


def _difference(before, expected, found):
    """Which tensor did not move from `before` as expected, in words; None where all did, but for rounding."""
    moves = {at: _distance(value, before.values[at]) for at, value in expected.values.items()}
    together = {kind: math.hypot(*(moves[at] for at in moves if at[0] == kind)) for kind, _ in moves}
    for at, value in expected.values.items():
        error = _distance(found.values[at], value)
        allowed = OWN_TOLERANCE * moves[at] + COMMON_TOLERANCE * together[at[0]]
        if not error <= (allowed if value.is_floating_point() else 0.0):  # of NaN too
            return f"the captured step moves {at[1]} by {error:.1e} otherwise than the eager one"
    return None


def _distance(first, second):
    return float(torch.linalg.vector_norm(first.double() - second.double()))
