import copy
import gc
import json
import os
import shutil
import subprocess
import sys
import textwrap
import weakref
from collections import OrderedDict
from pathlib import Path
from types import MethodType, ModuleType

import pytest
import torch
from helpers import PROJECT
from torch import nn

from ltkd import METHODS
from ltkd._support.fingerprint import class_code, folder_fingerprint, network_fingerprint
from ltkd.models import build

# --- classes ---

OWN = """
    from functools import cached_property, lru_cache, partial, wraps
    from types import ModuleType

    import torch
    import torch.nn.functional as F

    from ltkd import Method, Option, losses
    from ltkd.methods import KD, CrossEntropy

    def times(factor):
        def decorate(function):
            @wraps(function)
            def decorated(self, step):
                return factor * function(self, step)
            return decorated
        return decorate

    class Start(CrossEntropy):
        def begin(self, student, teachers, training, held_out):
            self.start = 31

    class Helper:
        def help(self):
            return 43

    tools = ModuleType("tools")
    tools.__file__ = "/here/tools.py"

    class Own(KD):
        '''A method.'''

        parent = Start
        strength = Option(0.5, "how strong")
        words = {"one": "a", "two": "b"}
        activation = torch.tanh
        pooling = F.max_pool2d
        loss = partial(losses.dkd, alpha=32)
        shift = partial(lambda x, y: x + y + 44, y=45)
        table = torch.arange(2000) != 46
        helper, tools = Helper(), tools
        square = lambda self, x: x**33

        @property
        def scale(self):
            return 34

        @scale.setter
        def scale(self, value):
            self.number = 35

        @cached_property
        def late(self):
            return 36

        @lru_cache
        def kept(self):
            return 37

        @classmethod
        def common(cls):
            return 47

        @staticmethod
        def alone():
            return {"x", "y", "many"}

        @torch.no_grad()
        def quiet(self, x=39, *, y=40, kind=torch.float16):
            return [41 for _ in range(x)]

        @times(42)
        def forward(self, step):
            return {"ce": super().forward(step), "own": Own}
    """


def own_class(text=OWN, old="", new="", module="__main__"):
    """The class `Own` of a notebook's cell or of a module, in which `old` was replaced by `new`."""
    assert old in text
    names = {"__name__": module}
    exec(textwrap.dedent(text).replace(old, new), names)
    return names["Own"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("begin", "end_epoch"),
        *((str(number), "99") for number in (*range(31, 38), *range(39, 48))),
        ("x**", "x*"),
        ("Option(0.5", "Option(0.6"),
        ('"b"', '"c"'),
        ("torch.tanh", "torch.relu"),
        ("F.max_pool2d", "F.max_pool1d"),
        ("losses.dkd", "losses.dist"),
        ("many", "few"),
        ("torch.float16", "torch.bfloat16"),
        ("Own(KD)", "Own(CrossEntropy)"),
        ("parent = Start", "parent = KD"),
    ],
)
def test_whatever_a_class_does_is_in_its_code(old, new):
    assert class_code(own_class(old=old, new=new)) != class_code(own_class())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("class Start", "\n\n\n# a line of words\nclass Start"),
        ("A method.", "A method of mine."),
        ('"how strong"', '"its strength"'),
        ("/here/", "/there/"),
    ],
)
def test_words_and_places_are_not(old, new):
    assert class_code(own_class(old=old, new=new)) == class_code(own_class())


def test_a_class_may_move_to_a_module():
    assert class_code(own_class(module="elsewhere")) == class_code(own_class())


VALUES = """
    from collections import namedtuple
    from dataclasses import dataclass
    from functools import partialmethod

    import numpy as np
    import pandas as pd
    import torch
    from torch import nn

    class Ramp:
        def __init__(self, slope):
            self.slope, self.me = slope, [self]

        def at(self, epoch):
            return self.slope * epoch

    class Slotted:
        __slots__ = ("slope",)

        def __init__(self, slope):
            self.slope = slope

    @dataclass(frozen=True)
    class Named:
        names: frozenset

    class Level(float):
        pass

    Pair = namedtuple("Pair", "one two")

    def layer(weight):
        layer = nn.Linear(2, 2)
        for parameter in layer.parameters():
            nn.init.constant_(parameter, weight)
        return layer

    class Own:
        value = {value}
    """
PAIRS = [  # two values that differ
    ("np.arange(2000)", "np.arange(2000) + (np.arange(2000) == 1000)"),
    ("np.array([0.12345678])", "np.array([0.123456779])"),
    ("np.zeros(2)", "np.zeros(2, dtype=int)"),
    ("np.zeros((2, 3))", "np.zeros((3, 2))"),
    ("np.array([None, Ramp(0.1)])", "np.array([None, Ramp(0.9)])"),
    ("np.float64(0.1)", "np.float32(0.1)"),
    ("pd.Series(range(200))", "pd.Series([0] * 200)"),
    ("torch.zeros(2)", "torch.zeros(2, dtype=torch.int32)"),
    ("torch.zeros(2, 3)", "torch.zeros(3, 2)"),
    ("Ramp(0.1)", "Ramp(0.9)"),
    ("[{'ramp': Ramp(0.1)}]", "[{'ramp': Ramp(0.9)}]"),
    ("Ramp(0.1).at", "Ramp(0.9).at"),
    ("Slotted(0.1)", "Slotted(0.9)"),
    ("Level(0.1)", "Level(0.9)"),
    ("Pair(1, 2)", "Pair(1, 3)"),
    ("Named(frozenset({'a', 'b', 'c', 'd'}))", "Named(frozenset({'a', 'b', 'c', 'e'}))"),
    ("{Ramp(0.1), Named(frozenset())}", "{Ramp(0.9), Named(frozenset())}"),
    ("layer(0.1)", "layer(0.9)"),
    ("[layer(0.1)]", "[layer(0.9)]"),
    ("partialmethod(lambda self, x: x)", "partialmethod(lambda self, x: -x)"),
    ("lambda self, *x: x", "lambda self, x: x"),
    ("lambda self, **x: x", "lambda self, x: x"),
    ("lambda self, x, /: x", "lambda self, x: x"),
    ("lambda self, *, x: x", "lambda self, x: x"),
    ("lambda self, *, a, b: a - b", "lambda self, *, b, a: b - a"),
]


def own_values():
    """A class for each value of PAIRS."""
    return [own_class(VALUES, "{value}", value) for pair in PAIRS for value in pair]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
def test_the_value_of_an_attribute_is_in_the_code(pair):
    first, second, other = (own_class(VALUES, "{value}", value) for value in (pair[0], *pair))
    assert class_code(first) == class_code(second) != class_code(other)


def test_the_lines_in_which_an_error_is_caught_are_in_the_code():
    """Such a block costs no instruction, and so leaves the bytecode as it is."""
    text = "class Own:\n  def method(self):\n    with self.lock:\n      self.one()\n"
    own, other = own_class(text), own_class(text)
    other.method.__code__ = other.method.__code__.replace(co_exceptiontable=b"")
    assert class_code(own) != class_code(other)


@pytest.mark.slow
def test_another_process_finds_the_same_code():
    script = "import test_fingerprint as t; print(*map(t.class_code, [t.own_class(), *t.own_values()]))"
    script += "; print(*map(t.network_fingerprint, t.own_networks()))"
    where = {"PYTHONPATH": os.pathsep.join([str(PROJECT / "tests" / "_support"), str(PROJECT / "tests")])}
    where |= {"PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | where)
    here = [*map(class_code, [own_class(), *own_values()]), *map(network_fingerprint, own_networks())]
    assert done.stdout.split() == here, done.stderr


NOTING = """
    class Base:
        common = []

    def make(noted, made_of):
        class Own(Base):
            other, log = made_of, {"losses": []}

            def forward(self):
                return noted, later

        later = 1
        return Own

    Own = make([], {})
    """


def test_what_a_class_notes_down_while_it_trains_is_not():
    own, fresh = own_class(NOTING), own_class(NOTING)
    code = class_code(own)
    own.log["losses"].append(0.5)
    own.common.append(0.5)
    own.forward.__closure__[1].cell_contents.append(0.5)
    assert class_code(own) == code == class_code(fresh)
    assert class_code(type("Heir", (own,), {})) == class_code(type("Heir", (fresh,), {}))


def test_a_name_that_is_bound_later_may_be_missing_still():
    def forward(self):
        return later

    code = class_code(type("Own", (), {"forward": forward}))
    later = 1
    assert code != class_code(type("Own", (), {"forward": forward}))


def test_a_class_that_is_forgotten_may_go():
    text = "class Own:\n    def me(self):\n        return __class__"
    own = own_class(text)
    code, gone = class_code(own), weakref.ref(own)
    del own
    gc.collect()
    assert gone() is None
    assert class_code(own_class(text)) == code


def test_a_module_of_ones_own_is_no_library_whatever_its_name(monkeypatch):
    own, other = (own_class("class Own:\n    x = 1", "1", number, module="profile") for number in "12")
    monkeypatch.setitem(sys.modules, "profile", ModuleType("profile"))
    sys.modules["profile"].__file__ = "/here/profile.py"
    assert None is not class_code(own) != class_code(other)


@pytest.mark.parametrize("one", [OrderedDict, Path, json.JSONEncoder])
def test_a_class_of_pythons_own_goes_by_its_name(one):
    assert class_code(one) is None


def test_functions_of_two_libraries_are_two():
    codes = {class_code(type("Own", (), {"tool": staticmethod(tool)})) for tool in (copy.copy, shutil.copy)}
    assert len(codes) == 2


@pytest.mark.parametrize("cls", [*METHODS.values(), nn.Linear], ids=lambda cls: cls.__name__)
def test_a_class_of_the_package_or_of_torch_goes_by_its_name(cls):
    assert class_code(cls) is None


# --- networks ---

NETWORK = """
    from functools import partial

    import torch
    from torch import nn

    class Half(nn.Module):
        def forward(self, x):
            return x / 2

    class Network(nn.Module):
        def __init__(self, activation):
            super().__init__()
            self.half, self.head, self.activation = Half(), nn.Linear(4, 3), activation
            nn.init.constant_(self.head.weight, 0.1)
            nn.init.zeros_(self.head.bias)

        def forward(self, images):
            return self.head(self.activation(self.half(images).flatten(1)))

    Own = partial(Network, lambda x: x.relu())
    """


@pytest.mark.parametrize(
    ("old", "new"),
    [(".flatten(1)", ".flatten(1).tanh()"), ("x / 2", "x / 3"), ("x.relu()", "x.tanh()"), ("0.1", "0.2")],
)
def test_a_network_is_known_by_its_layers_code_and_by_its_weights(old, new):
    first, second, other = (own_class(NETWORK, *edit)() for edit in ((), (), (old, new)))
    assert network_fingerprint(first) == network_fingerprint(second) != network_fingerprint(other)


def test_a_forward_that_was_put_into_a_network_is_in_its_fingerprint():
    networks = [nn.Sequential(nn.Flatten()) for _ in range(3)]
    for network, forward in zip(networks[1:], (lambda _, x: x.relu(), lambda _, x: x.tanh()), strict=True):
        network.forward = MethodType(forward, network)
    assert len({network_fingerprint(network) for network in networks}) == 3


@pytest.mark.parametrize(
    ("network", "fingerprint"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2)), "994a6e03"),
        (build("resnet8x0.5", num_classes=10, in_channels=1, image_size=8), "fc918ba6"),
    ],
    ids=["torch", "package"],
)
def test_a_network_of_known_layers_keeps_its_fingerprint(network, fingerprint):
    """Whoever changes these literals makes every stored run of such a network a stranger."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.5)
    assert network_fingerprint(network) == fingerprint


HOLDING = """
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self, number):
            super().__init__()
            self.head, self.norm, self.activation = nn.Linear(4, 3), nn.BatchNorm1d(3), lambda x: x.relu()
            for parameter in self.head.parameters():
                nn.init.constant_(parameter, 0.1)
            self.names = {"a", "b", "c", "d"}
            {what}

        def forward(self, images):
            return self.norm(self.head(self.activation(images)))

    Own = Network
    """
HELD = [
    'self.register_buffer("mean", torch.tensor(number), persistent=False)',
    "self.mean = torch.tensor(number)",
    "self.number = number",
    "self.options = [number]",
    'self.options = {"number": [number]}',
    "self.experts = [nn.Linear(2, 2)]; nn.init.constant_(self.experts[0].weight, number)",
    "self.register_forward_hook(lambda *_: number)",
    "self.head.register_forward_pre_hook(lambda *_: number)",
    "self.head.register_forward_hook(lambda *_, **__: number, with_kwargs=True)",
    "self.head.register_full_backward_hook(lambda *_: number)",
    "self.get_number = lambda: number",
]


def held_networks(what, numbers):
    return [own_class(HOLDING, "{what}", what)(number) for number in numbers]


def own_networks():
    """Networks of whatever a layer may hold; none has random weights in it that are not set."""
    torch.manual_seed(0)
    return [held_networks(what, [1.0])[0] for what in HELD]


@pytest.mark.parametrize("what", HELD)
def test_whatever_a_layer_holds_is_in_the_fingerprint(what):
    torch.manual_seed(0)
    networks = held_networks(what, (1.0, 2.0))
    torch.manual_seed(0)
    again = held_networks(what, (1.0,))[0]
    assert network_fingerprint(again) == network_fingerprint(networks[0]) != network_fingerprint(networks[1])


def test_extra_state_is_in_the_fingerprint():
    class Extra(nn.Flatten):
        def get_extra_state(self):
            return {"number": next(numbers)}

    numbers, network = iter((1, 1, 2)), nn.Sequential(Extra())
    first, second, other = (network_fingerprint(network) for _ in range(3))
    assert first == second != other


@pytest.mark.slow
def test_neither_the_mode_nor_a_step_nor_compiling_makes_a_difference():
    network = held_networks("", [0])[0].eval()
    fingerprint = network_fingerprint(network)
    compiled = torch.compile(network, backend="eager")
    assert network_fingerprint(compiled) == network_fingerprint(network) == fingerprint
    compiled(torch.ones(2, 4)).sum().backward()
    assert network.head.weight.grad is not None
    network.compile(backend="eager")
    assert network_fingerprint(compiled) == network_fingerprint(network) == fingerprint
    assert network_fingerprint(network.train()) == fingerprint


@pytest.mark.slow
def test_a_compiled_layer_is_the_layer():
    networks = [held_networks("", [0])[0] for _ in range(2)]
    networks[1].head = torch.compile(networks[1].head, backend="eager")
    assert network_fingerprint(networks[0]) == network_fingerprint(networks[1])


# --- folders ---


def test_a_folder_is_known_by_its_files_names_and_sizes_and_by_its_lists(tmp_path):
    for name, text in (("a/x", "1"), ("b/x", "2")):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    first = folder_fingerprint(tmp_path)
    (tmp_path / "a/x").write_text("3")
    assert folder_fingerprint(tmp_path) == first != folder_fingerprint(tmp_path, [tmp_path / "a/x"])
    (tmp_path / "a/x").write_text("45")
    assert folder_fingerprint(tmp_path) != first
