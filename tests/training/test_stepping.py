"""Steps: as in a loop written plainly, bit for bit; and as a graph, which must prove itself and is left where it fails.

What only a GPU can do is stood for by `Pretend`, whose graph is the step itself; all else is the code that a GPU runs.
"""

from contextlib import contextmanager, nullcontext

import pytest
import torch
import torch.nn.functional as F
from helpers import digits_config
from prepared import SETTINGS as UNTRAINED
from prepared import Untrained, prepared, seven_classes, weights_of
from torch import nn

from ltkd import METHODS, ConfigError, Method, RunConfig, RunError, fit
from ltkd.decomposition import decompose_parts
from ltkd.losses import rebalance
from ltkd.methods import TEACHER, Answer, Step
from ltkd.training import stepping
from ltkd.training.fit import train_epoch, train_step
from ltkd.training.history import ProgressBar
from ltkd.training.setup import prepare
from ltkd.training.stepping import Graphed, stepper

SETTINGS = {"epochs": 2, "milestones": (0.5,), "batch_size": 32}  # 322 images, or 290: whole batches, and one of two
every_method = pytest.mark.parametrize("name", METHODS)
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


# --- a loop written plainly ---


def plain_epoch(job, epoch):
    """One epoch of a job in the plainest words; returns its record."""
    for group in job.optimizer.param_groups:
        group["lr"] = job.schedule.rate(epoch) * group["lr_scale"]
    job.method.set_mode(job.student)
    sums, seen, hits, kl, masses = {}, 0, 0, 0.0, []
    for step in plain_steps(job, epoch):
        terms = job.method(step)
        job.optimizer.zero_grad()
        sum(terms.values()).backward()
        job.optimizer.step()
        with torch.no_grad():
            seen, hits = seen + len(step.labels), hits + int((step.logits.argmax(1) == step.labels).sum())
            for name, term in terms.items():
                sums[f"loss_{name}"] = sums.get(f"loss_{name}", 0.0) + term * len(step.labels)
            if TEACHER in step.teachers:
                parts = of_the_teacher(job, step)
                kl = kl + torch.cat([parts.cross[:, None], parts.within], 1).sum(0)
                mass = parts.teacher_mass
                masses.append([mass.sum(0).tolist(), rebalance(mass, mass.sum(0)).sum(0).tolist()])
    record = {name: float(total) / seen for name, total in sums.items()}
    record["train_all"] = 100 * float(torch.tensor(float(hits)) / seen)
    if not masses:
        return record
    names = ["cross_kl", *(f"within_kl_{name}" for name in job.groups.names)]
    return record | dict(zip(names, (kl / seen).tolist(), strict=True)) | {"masses": masses}


def plain_steps(job, epoch):
    """The steps of an epoch, with every teacher asked at every step."""
    seeds = {name: ("epoch", epoch, *(() if name == "main" else (name,))) for name in job.method.streams}
    drawn = {name: job.training.draw(job.method.streams[name], job.config.derived_seed(*seeds[name])) for name in seeds}
    parts = [job.training.parts(each, job.config.batch_size) for each in drawn.values()]
    batches = [map(job.training.batch, each) for each in parts]
    for batch in zip(*batches, strict=True):
        batch = dict(zip(drawn, batch, strict=True))
        featured = job.method.needs == "features"
        answers = {name: Answer(t, batch["main"].images, featured=featured) for name, t in job.teachers.items()}
        yield Step(job.student, batch, torch.tensor(float(epoch)), answers, featured=featured)


def of_the_teacher(job, step):
    temperature = getattr(job.method, "temperature", 1.0)
    return decompose_parts(step.teacher_logits, step.logits, job.groups, temperature=temperature)


def trained_plainly(name, **settings):
    job = prepared(name, **SETTINGS | settings)
    rows = []
    for epoch in range(1, job.schedule.epochs + 1):
        rows.append(plain_epoch(job, epoch))
        job.method.end_epoch(job.student.eval(), job.held_out)
    return job, rows


# --- our loop ---


class Pretend:
    """Stands for a Gpu: its graph is the step itself, unless `graph` makes another of it."""

    fused = None

    def __init__(self, graph=lambda step: step, faults=()):
        self.graph, self.faults, self.captured = graph, list(faults), 0

    def aside(self):
        return nullcontext()

    @contextmanager
    def watched(self):
        yield self.faults

    def capture(self, step):
        self.captured += 1
        return self.graph(step)

    def random_state(self):
        return torch.random.get_rng_state()

    def set_random_state(self, state):
        torch.random.set_rng_state(state)


def trained(name, gpu=None, *, must=False, **settings):
    """A job trained by our loop; with a gpu by graphs."""
    job = prepared(name, **SETTINGS | settings)
    if gpu is not None:
        job.stepper = Graphed(gpu, must=must)
    return job, epochs_of(job)


def epochs_of(job):
    bar, rows = ProgressBar(job.config, 1, len(job.training), 0, show=False), []
    for epoch in range(1, job.schedule.epochs + 1):
        rows.append(train_epoch(job, epoch, bar))
        job.method.end_epoch(job.student.eval(), job.held_out)
    return rows


def everything(job):
    """All that training changed: {name: tensor}."""
    return weights_of(job.student) | weights_of(job.method) | momentum(job)


def momentum(job):
    state = job.optimizer.state_dict()["state"]
    return {f"momentum {i}": values["momentum_buffer"] for i, values in state.items()}


def assert_same(job, other):
    """Equal bit for bit, but that a zero may be -0."""
    first, second = everything(job), everything(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def assert_recorded(rows, expected):
    for row, plain in zip(rows, expected, strict=True):
        found = {name: row[name] for name in plain if name != "masses"}
        assert found == {name: value for name, value in plain.items() if name != "masses"}
        if "masses" in plain:
            pairs = zip(row["teacher_mass"].tolist(), row["rebalanced_mass"].tolist(), strict=True)
            assert [list(pair) for pair in pairs] == plain["masses"]


@every_method
def test_our_loop_does_what_a_plain_one_does_bit_for_bit(name):
    plain, expected = trained_plainly(name)
    job, rows = trained(name)
    assert len({row["lr"] for row in rows}) == len(rows) if name != "oltr" else len(rows) == 4
    assert_same(job, plain)
    assert_recorded(rows, expected)


@every_method
def test_so_does_a_graph_of_every_method(name):
    plain, expected = trained_plainly(name)
    gpu = Pretend()
    job, rows = trained(name, gpu, must=True)
    assert gpu.captured == 1
    assert job.stepper.note == "cuda graph"
    assert_same(job, plain)
    assert_recorded(rows, expected)


def test_the_rows_of_an_epoch_stay_when_the_next_begins():
    job = prepared("ltkd", **SETTINGS)
    bar = ProgressBar(job.config, 1, len(job.training), 0, show=False)
    first = train_epoch(job, 1, bar)["teacher_mass"]
    kept = first.clone()
    second = train_epoch(job, 2, bar)["teacher_mass"]
    assert torch.equal(first, kept)
    assert not torch.equal(first, second)


# --- what a graph is taken of, and when ---


def counted(replays):
    """A graph that counts how often it is replayed."""

    def graph(step):
        def replay():
            replays.append(1)
            step()

        return replay

    return graph


def test_all_whole_batches_but_the_first_three_are_replayed():
    replays = []
    job, _ = trained("kd", Pretend(counted(replays)))
    images, epochs = len(job.training), job.schedule.epochs
    assert images % SETTINGS["batch_size"] > 1  # a smaller batch is left over
    assert len(replays) == epochs * (images // SETTINGS["batch_size"]) - stepping.WARM_UPS


def test_a_run_too_short_for_a_graph_says_so():
    job, _ = trained("ce", Pretend(), batch_size=222)
    assert job.stepper.note == "eager: the run is too short for a graph"


def test_the_proof_sees_another_batch_than_the_capture():
    """Else a graph that froze its inputs would pass."""

    def frozen(step):
        function, job, inputs = step.func, *step.args
        copy = stepping._copy_of(inputs)
        return lambda: function(job, copy)

    job, _ = trained("kd", Pretend(frozen))
    assert job.stepper.note.startswith("eager: the captured step moves ")


def test_a_state_with_rates_of_a_graph_goes_on_without_one():
    """Only what changes is stored; how it is changed is chosen anew."""
    graphed, _ = trained("kd", Pretend(), epochs=2)
    job = prepared("kd", **SETTINGS)
    job.load(graphed.state())
    job.set_rate(0.01)
    assert [(group["lr"], group["fused"]) for group in job.optimizer.param_groups] == [(0.01, None)]


# --- where it fails, the run goes on eagerly ---


def failing(step):
    raise RuntimeError("operation not permitted\nwhile capturing")


def idle(step):
    """A graph of nothing."""
    return lambda: None


def breaks(step):
    """A graph that cannot be replayed."""

    def replay():
        step()
        raise RuntimeError("an illegal address")

    return replay


def without_update(step):
    """A graph that misses the optimizer."""
    function, job, inputs = step.func, *step.args

    def replay():
        kept = weights_of(job.student)
        function(job, inputs)
        with torch.no_grad():
            for name, value in job.student.named_parameters():
                value.copy_(kept[name])

    return replay


def wrong_in_one_bias(step):
    """A graph whose last bias moves a twentieth too far."""
    function, job, inputs = step.func, *step.args

    def replay():
        kept = job.student.fc.bias.detach().clone()
        function(job, inputs)
        with torch.no_grad():
            job.student.fc.bias.add_(job.student.fc.bias - kept, alpha=0.05)

    return replay


def not_a_number(step):
    function, job, inputs = step.func, *step.args

    def replay():
        function(job, inputs)
        job.record.hits.fill_(float("nan"))

    return replay


BROKEN = {
    failing: "RuntimeError: operation not permitted",
    breaks: "RuntimeError: an illegal address",
    idle: "the captured step moves ",
    without_update: "the captured step moves student.",
    wrong_in_one_bias: "the captured step moves student.fc.bias by ",
    not_a_number: "the captured step moves hits by nan",
}


@pytest.mark.parametrize("graph", BROKEN, ids=lambda graph: graph.__name__)
@pytest.mark.parametrize("name", ["ltkd", "bbn"])
def test_a_graph_that_fails_leaves_the_run_as_if_it_had_not_been_tried(name, graph):
    if name == "bbn" and graph is wrong_in_one_bias:
        graph = without_update
    plain, expected = trained_plainly(name)
    job, rows = trained(name, Pretend(graph))
    assert job.stepper.note.startswith(f"eager: {BROKEN[graph]}")
    assert "\n" not in job.stepper.note
    assert all(type(group["lr"]) is float for group in job.optimizer.param_groups)
    assert_same(job, plain)
    assert_recorded(rows, expected)


def test_a_step_that_waits_for_the_device_is_not_captured():
    gpu = Pretend(faults=["a step waits for the GPU in mine.py, line 7"])
    job, _ = trained("kd", gpu)
    assert (job.stepper.note, gpu.captured) == ("eager: a step waits for the GPU in mine.py, line 7", 0)


def test_a_step_that_fails_half_way_while_it_warms_up_is_undone(monkeypatch):
    """Such as torch's fused update, where it does not take a network's weights."""
    plain, expected = trained_plainly("ltkd")
    job = prepared("ltkd", **SETTINGS)
    job.stepper, update = Graphed(Pretend(), must=False), job.optimizer.step

    def refuse():
        if torch.is_tensor(job.optimizer.param_groups[0]["lr"]):
            raise RuntimeError("not these weights")
        update()

    monkeypatch.setattr(job.optimizer, "step", refuse)
    rows = epochs_of(job)
    assert job.stepper.note == "eager: RuntimeError: not these weights"
    assert_same(job, plain)
    assert_recorded(rows, expected)


def test_who_asks_for_a_graph_is_told_where_there_is_none():
    with pytest.raises(RunError, match=r"step = 'graph': RuntimeError: operation not permitted; use"):
        trained("ce", Pretend(failing), must=True)


class Counting(Method):
    """Cross-entropy that counts its steps in a plain number."""

    count = 0

    def forward(self, step):
        self.count += 1
        return {"ce": F.cross_entropy(step.logits, step.labels)}


class Replacing(Method):
    """Cross-entropy that keeps a mean in a buffer which every step replaces."""

    def __init__(self, task, **options):
        super().__init__(task, **options)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, step):
        ce = F.cross_entropy(step.logits, step.labels)
        self.mean = 0.9 * self.mean + 0.1 * ce.detach()
        return {"ce": ce}


class Yearly(Replacing):
    """Cross-entropy weighed by a buffer that is replaced after an epoch."""

    def forward(self, step):
        return {"ce": (1 + self.mean) * F.cross_entropy(step.logits, step.labels)}

    def end_epoch(self, student, held_out):
        self.mean = self.mean + 1


class Faulty(Method):
    """Returns no terms."""

    def forward(self, step):
        return step.logits


@pytest.fixture
def own(monkeypatch):
    for cls in (Counting, Replacing, Yearly, Faulty):
        monkeypatch.setitem(METHODS, cls.__name__.lower(), cls)


@pytest.mark.parametrize("name", ["counting", "replacing"])
def test_a_step_that_changes_more_than_values_is_not_captured(own, name):
    """The next replay would read what the captured step had read."""
    gpu = Pretend()
    job, _ = trained(name, gpu)
    assert (job.stepper.note, gpu.captured) == ("eager: a step changes more than the values of tensors", 0)


def test_what_is_replaced_between_epochs_is_captured_anew(own):
    gpu = Pretend()
    job, rows = trained("yearly", gpu, must=True)
    plain, expected = trained_plainly("yearly")
    assert gpu.captured == 2
    assert_same(job, plain)
    assert_recorded(rows, expected)


def test_a_methods_own_fault_is_told_as_ever(own):
    with pytest.raises(ConfigError, match="forward of Faulty returned Tensor"):
        trained("faulty", Pretend())


def test_layers_that_draw_for_themselves_draw_in_a_graph_what_they_draw_without():
    student = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 7))

    def drawn(gpu):
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(3)
            return trained("ce", gpu, student=student)[0]

    assert_same(drawn(Pretend()), drawn(None))


# --- which it is to be ---


def test_without_a_gpu_every_step_is_taken_as_python_says_it(tmp_path):
    assert fit(digits_config(method="ce", epochs=1), runs=tmp_path, device="cpu", progress=False).result["step"] == (
        "eager: there is no GPU"
    )


def test_eager_is_eager_without_a_reason():
    assert stepper("eager", prepared("ce").training, torch.device("cuda")).note == "eager"


@pytest.mark.parametrize(("how", "message"), [("graph", "there is no GPU; use"), ("grph", "did you mean 'graph'")])
def test_a_graph_without_a_gpu_and_a_word_that_is_none_are_refused_before_training(tmp_path, how, message):
    with pytest.raises(ConfigError, match=message):
        fit(digits_config(method="ce"), runs=tmp_path, device="cpu", progress=False, step=how)
    assert not list(tmp_path.iterdir())


def test_images_from_disk_and_several_processes_take_eager_steps(monkeypatch):
    class FromDisk:
        views = None

    cuda, held = torch.device("cuda"), prepared("ce").training
    assert stepper("auto", FromDisk(), cuda).note == "eager: the images come from disk"
    monkeypatch.setattr(stepping.distributed, "world_size", lambda: 2)
    assert stepper("auto", held, cuda).note == "eager: several processes train the run"


# --- on a GPU ---


def on_device(name, folder, **how):
    config = digits_config(method=name, **SETTINGS | {"epochs": 4, "held_out": 0.1 if name == "lfme" else 0.0})
    return fit(config, runs=folder, device="cuda", progress=False, **how)


@on_gpu
@every_method
@pytest.mark.parametrize("cache", ["memory", "off"])
def test_the_real_capture_proves_itself_and_learns_as_much(name, tmp_path, cache):
    graph = on_device(name, tmp_path / "graph", step="graph", cache=cache)
    eager = on_device(name, tmp_path / "eager", step="eager", cache=cache)
    assert graph.result["step"] == "cuda graph"
    first = [run.history.loss[0] for run in (graph, eager)]
    assert first[0] == pytest.approx(first[1], rel=1e-2)


@on_gpu
@every_method
def test_no_step_waits_for_the_gpu(name):
    config = RunConfig.make(**UNTRAINED | SETTINGS | {"method": name})
    where = {"device": torch.device("cuda"), "workers": 0, "cache": "off", "teacher": None, "student": None}
    data = seven_classes()
    job = prepare(config, data, **where, train_first=lambda config, **_: Untrained(config, data))
    job.method.set_mode(job.student)
    inputs = list(job.inputs(1))
    for each in inputs[:2]:
        train_step(job, each)
    torch.cuda.set_sync_debug_mode("error")
    try:
        train_step(job, inputs[2])
    finally:
        torch.cuda.set_sync_debug_mode("default")
