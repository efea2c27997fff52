import copy
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections import OrderedDict
from functools import partial
from pathlib import Path
from types import MethodType, ModuleType

import pytest
import torch
from helpers import PROJECT
from IPython.core.interactiveshell import InteractiveShell
from torch import nn

from ltkd import METHODS
from ltkd._support.fingerprint import class_code, network_fingerprint
from ltkd.models import build

# --- classes ---

TOOLS = """
    import torch

    FACTOR = 51

    def deep(x):
        return x * 52 * FACTOR

    def helper(x, add=53):
        '''A helper.'''
        return deep(x) + add

    class Ramp:
        def __init__(self, slope):
            self.slope = slope

        def at(self, epoch):
            return self.slope * epoch * 54

    def late():
        return 55

    def unused():
        return 71
    """
MINE = """
    from functools import cached_property, lru_cache, partial, wraps

    import numpy as np
    import torch
    import torch.nn.functional as F

    import tools
    from ltkd import Method, Option, losses
    from ltkd.methods import KD, CrossEntropy
    from tools import Ramp

    WEIGHTS = {"head": 21, "tail": [22]}
    TABLE = torch.arange(2000) != 23
    ARRAY = np.arange(2000) != 24
    RAMP = Ramp(25)
    UNUSED = 72

    def times(factor):
        def decorate(function):
            @wraps(F.softmax)
            def decorated(self, step):
                return factor * function(self, step) + 26
            return decorated
        return decorate

    def weight(step):
        '''What a step weighs.'''
        return WEIGHTS["tail"][0] * TABLE * ARRAY.sum() * RAMP.at(1)

    class Start(CrossEntropy):
        def begin(self, student, teachers, training, held_out):
            self.start = 31

    class Middle(KD):
        def end_epoch(self, student, held_out):
            self.ended = 27

    class Own(Middle):
        '''A method.'''

        parent = Start
        strength = Option(0.5, "how strong")
        words = {"one": "a", "two": "b"}
        activation = torch.tanh
        pooling = F.max_pool2d
        loss = partial(losses.dkd, alpha=32)
        shift = partial(lambda x, y: x + y + 44, y=45)
        square = lambda self, x: x**33

        @property
        def scale(self):
            return 34

        @scale.setter
        def scale(self, value):
            self.number = 35

        @cached_property
        def late(self):
            '''Late.'''
            return 36

        def guarded(self):
            from tools import late
            try:
                self.scale(late)
                self.late()
            except KeyError:
                pass

        @lru_cache
        def kept(self):
            return 37

        @classmethod
        def common(cls):
            return 38

        @staticmethod
        def alone():
            return {"x", "y", "many"}

        @torch.autocast("cpu", torch.bfloat16)
        def quiet(self, x=39, *, y=40, kind=torch.float16):
            return [41 for _ in range(x)]

        @times(42)
        def forward(self, step):
            '''The loss.'''
            inner = lambda x: tools.helper(x) + 43
            try:
                return {"ce": super().forward(step), "own": Own, "b": losses.kd(inner(1), weight(step), temperature=2)}
            except ValueError:
                return None
    """


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Writes `tools.py` and the module of `Own` as they are after edits (old, new), and imports `Own`."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(*edits, name="mine"):
        texts = {"tools": textwrap.dedent(TOOLS), name: textwrap.dedent(MINE)}
        assert all(any(old in text for text in texts.values()) for old, _ in edits)
        for module, text in texts.items():
            for old, new in edits:
                text = text.replace(old, new)
            (tmp_path / f"{module}.py").write_text(text)
            sys.modules.pop(module, None)
        importlib.invalidate_caches()
        return importlib.import_module(name).Own

    yield load
    for module in ("tools", "mine", "yours"):
        sys.modules.pop(module, None)


GUARDED = (
    "    self.late()\n        except KeyError:\n            pass"  # lines that are guarded have the same instructions
)
EDITS = [
    *((str(number), "99") for number in (*range(21, 28), *range(31, 46), *range(51, 56))),
    ("begin", "end_epoch"),
    ("x**", "x*"),
    ("Option(0.5", "Option(0.6"),
    ('"b"', '"c"'),
    ("torch.tanh", "torch.relu"),
    ("F.max_pool2d", "F.max_pool1d"),
    ("losses.dkd", "losses.dist"),
    ("losses.kd", "losses.dkd"),
    ("temperature=2", "alpha=2"),
    ("many", "few"),
    ("torch.float16", "torch.float32"),
    ("torch.bfloat16", "torch.half"),
    ("except ValueError", "except KeyError"),
    (GUARDED, "except KeyError:\n            pass\n        else:\n            self.late()"),
    ("Middle(KD)", "Middle(CrossEntropy)"),
    ("parent = Start", "parent = KD"),
]


@pytest.mark.parametrize("edit", EDITS, ids=" -> ".join)
def test_whatever_a_class_does_is_in_its_code_with_all_that_it_names(load, edit):
    assert class_code(load(edit)) != class_code(load())


SILENT = [
    ("class Start", "\n\n\n# a comment\nclass Start"),
    ("def deep", "\n# a comment\ndef deep"),
    ("'''A method.'''", ""),
    ("'''A helper.'''", "'''The\n    helper.'''\n"),
    ("'''What a step weighs.'''", ""),
    ("'''The loss.'''", "'''Another docstring.'''\n\n        # a comment"),
    ("'''Late.'''", "'''Later.'''"),
    ('"how strong"', '"its strength"'),
    ("71", "99"),
    ("72", "99"),
]


@pytest.mark.parametrize("edit", SILENT, ids=lambda edit: edit[0])
def test_comments_docstrings_lines_and_what_is_not_named_are_not_in_it(load, edit):
    assert class_code(load(edit)) == class_code(load())


def test_a_class_may_move_to_another_module(load):
    assert class_code(load(name="yours")) == class_code(load())


def test_a_file_that_was_edited_counts_once_it_is_imported_again(load, tmp_path):
    own = load()
    code, file = class_code(own), tmp_path / "tools.py"
    file.write_text(file.read_text().replace("52", "99"))
    assert class_code(own) == code
    importlib.reload(sys.modules["tools"])
    assert class_code(own) != code


def test_a_value_counts_as_it_is_now(load):
    own = load()
    codes = {class_code(own)}
    sys.modules["mine"].WEIGHTS["tail"][0] += 1
    codes.add(class_code(own))
    own.words["one"] = "c"
    codes.add(class_code(own))
    own.forward = lambda self, step: {"ce": step.logits.mean()}
    codes.add(class_code(own))
    assert len(codes) == 4


def test_the_cells_of_a_notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))  # which the shell replaces
    shell = InteractiveShell()
    shell.history_manager.enabled = False

    def code(cell=""):
        shell.run_cell(textwrap.dedent(cell)).raise_error()
        return class_code(shell.user_ns["Own"])

    helper, own = (
        "def helper(x):\n    return FACTOR * x",
        "class Own:\n    def forward(self, x):\n        return helper(x)",
    )
    code(f"FACTOR = 1\n\n{helper}\n{own}")
    first = code()
    assert code("x, y = 1, FACTOR") == code(f"# a comment\n{helper}") == code(f"\n\n{own}") == first
    edited = [code("FACTOR = 2"), code(helper.replace("*", "+")), code(own.replace("(x)", "(-x)"))]
    assert len({first, *edited}) == 4


def own_class(text, old="", new="", module="__main__"):
    """The class `Own` of a text in which `old` was replaced by `new`."""
    assert old in text
    names = {"__name__": module}
    exec(textwrap.dedent(text).replace(old, new), names)
    return names["Own"]


VALUES = """
    from collections import Counter, deque, namedtuple
    from dataclasses import dataclass
    from enum import Enum
    from functools import partialmethod
    from threading import Lock
    from types import SimpleNamespace

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

    class Locked(Ramp):
        def __reduce__(self):
            raise TypeError("not to be pickled")

    @dataclass(frozen=True)
    class Named:
        names: frozenset

    class Level(float):
        pass

    class Kind(Enum):
        one, two = 1, 2

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
    ("1", "True"),
    ("np.arange(2000)", "np.arange(2000) + (np.arange(2000) == 1000)"),
    ("np.zeros(2)", "np.zeros(2, dtype=int)"),
    ("np.zeros((2, 3))", "np.zeros((3, 2))"),
    ("np.array([None, Ramp(0.1)])", "np.array([None, Ramp(0.9)])"),
    ("np.float64(0.1)", "np.float32(0.1)"),
    ("pd.Series(range(200))", "pd.Series([0] * 200)"),
    ("pd.DataFrame({'a': [1]})", "pd.DataFrame({'b': [1]})"),
    ("torch.zeros(2)", "torch.zeros(2, dtype=torch.int32)"),
    ("torch.zeros(2, 3)", "torch.zeros(3, 2)"),
    ("[{'ramp': Ramp(0.1)}]", "[{'ramp': Ramp(0.9)}]"),
    ("Ramp(0.1).at", "Ramp(0.9).at"),
    ("torch.tensor(0.1).add", "torch.tensor(0.1).mul"),
    ("torch.tensor(0.1).add", "torch.tensor(0.9).add"),
    ("Slotted(0.1)", "Slotted(0.9)"),
    ("Locked(0.1)", "Locked(0.9)"),
    ("[Lock(), 1]", "[Lock(), 2]"),
    ("Level(0.1)", "Level(0.9)"),
    ("Kind.one", "Kind.two"),
    ("Pair(1, 2)", "Pair(1, 3)"),
    ("deque([1])", "deque([2])"),
    ("Counter('a')", "Counter('b')"),
    ("SimpleNamespace(a=torch.zeros(2000))", "SimpleNamespace(a=torch.arange(2000) == 1000)"),
    ("{'a', 'b', 'c', 'd'}", "{'a', 'b', 'c', 'e'}"),
    ("Named(frozenset({'a', 'b', 'c', 'd'}))", "Named(frozenset({'a', 'b', 'c', 'e'}))"),
    ("{Ramp(0.1), Named(frozenset())}", "{Ramp(0.9), Named(frozenset())}"),
    ("layer(0.1)", "layer(0.9)"),
    ("partialmethod(lambda self, x: x)", "partialmethod(lambda self, x: -x)"),
    ("[lambda x: x, lambda x: -x][0]", "[lambda x: x, lambda x: -x][1]"),
    ("lambda self, *x: x", "lambda self, **x: x"),
    ("lambda self, *x: x", "lambda self, x: x"),
    ("lambda self, x, /: x", "lambda self, x: x"),
    ("lambda self, *, x: x", "lambda self, x: x"),
    ("lambda self, *, a, b: a - b", "lambda self, *, b, a: b - a"),
]


def test_equal_constants_may_be_one_object():
    one = own_class(VALUES, "{value}", "[(1, 2), (1, 2)]")
    assert one.value[0] is one.value[1]
    assert class_code(one) == class_code(own_class(VALUES, "{value}", "[(1, 2), tuple([1, 2])]"))


def own_values():
    """A class for each value of PAIRS."""
    return [own_class(VALUES, "{value}", value) for pair in PAIRS for value in pair]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
def test_the_value_of_an_attribute_is_in_the_code(pair):
    first, second, other = (own_class(VALUES, "{value}", value) for value in (pair[0], *pair))
    assert class_code(first) == class_code(second) != class_code(other)


@pytest.mark.slow
def test_another_process_finds_the_same_digits():
    script = "import test_fingerprint as t; print(*map(t.class_code, t.own_values()))"
    script += "; print(*map(t.network_fingerprint, t.own_networks()))"
    where = {"PYTHONPATH": os.pathsep.join([str(PROJECT / "tests" / "_support"), str(PROJECT / "tests"), str(PROJECT)])}
    where |= {"PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | where)
    here = [*map(class_code, own_values()), *map(network_fingerprint, own_networks())]
    assert done.stdout.split() == here, done.stderr


def test_a_name_that_is_bound_later_may_be_missing_still():
    def forward(self):
        return later

    code = class_code(type("Own", (), {"forward": forward}))
    later = 1
    assert code != class_code(type("Own", (), {"forward": forward}))


@pytest.mark.slow
def test_a_compiled_helper_is_the_helper():
    def helper(x):
        return 2 * x

    plain, compiled, other = helper, torch.compile(helper, backend="eager"), torch.compile(len, backend="eager")
    codes = [class_code(type("Own", (), {"helper": staticmethod(each)})) for each in (plain, compiled, other)]
    assert codes[0] == codes[1] != codes[2]


def test_a_module_of_ones_own_is_no_library_whatever_its_name(monkeypatch):
    own, other = (own_class("class Own:\n    x = 1", "1", number, module="profile") for number in "12")
    monkeypatch.setitem(sys.modules, "profile", ModuleType("profile"))
    sys.modules["profile"].__file__ = "/here/profile.py"
    assert None is not class_code(own) != class_code(other)


def test_functions_of_two_libraries_are_two():
    codes = {class_code(type("Own", (), {"tool": staticmethod(tool)})) for tool in (copy.copy, shutil.copy)}
    assert len(codes) == 2


@pytest.mark.parametrize(
    "cls", [*METHODS.values(), nn.Linear, OrderedDict, Path, json.JSONEncoder], ids=lambda cls: cls.__name__
)
def test_a_class_of_a_library_goes_by_its_name(cls):
    assert class_code(cls) is None


# --- networks ---

NETWORK = """
    import torch
    from torch import nn

    SCALE = 2

    def halved(x):
        return x / SCALE

    class Half(nn.Module):
        def forward(self, x):
            return halved(x)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.halve, self.conv = Half(), nn.Conv2d(1, 2, 3, stride=1)
            self.norm, self.activation = nn.BatchNorm2d(2), lambda x: x.relu()
            nn.init.constant_(self.conv.weight, 0.1)
            nn.init.zeros_(self.conv.bias)

        def forward(self, images):
            return self.norm(self.activation(self.conv(self.halve(images)))).flatten(1)

    Own = Network
    """


def network():
    return own_class(NETWORK)()


CODE = [(".flatten(1)", ".flatten(1).tanh()"), ("SCALE = 2", "SCALE = 3"), ("x / SCALE", "x * SCALE")]
CODE += [("x.relu()", "x.tanh()"), ("0.1", "0.2"), ("stride=1", "stride=2")]


@pytest.mark.parametrize("edit", CODE, ids=" -> ".join)
def test_a_network_is_known_by_its_layers_code_and_by_its_weights(edit):
    assert (
        network_fingerprint(network())
        == network_fingerprint(network())
        != network_fingerprint(own_class(NETWORK, *edit)())
    )


def hook(number, *_args, **_kwargs):
    return number


def with_number(number):
    return partial(hook, number)


CHANGES = {  # change(network, number)
    "a weight": lambda n, number: n.conv.weight.data[0, 0, 0].fill_(number),
    "a frozen layer": lambda n, number: n.conv.requires_grad_(number == 1),
    "a layer in another mode": lambda n, number: n.norm.train(number == 1),
    "a buffer": lambda n, number: n.register_buffer("mean", torch.tensor(number), persistent=False),
    "a statistic": lambda n, number: n.norm.running_mean.fill_(number),
    "a type": lambda n, number: n.to(torch.float64 if number == 1 else torch.float32),
    "a tensor": lambda n, number: setattr(n, "table", torch.tensor(number)),
    "a number": lambda n, number: setattr(n, "number", number),
    "a stride": lambda n, number: setattr(n.conv, "stride", (int(number),) * 2),
    "a list": lambda n, number: setattr(n, "options", {"number": [number]}),
    "networks in a list": lambda n, number: setattr(n, "experts", [nn.BatchNorm1d(2, momentum=number)]),
    "a function": lambda n, number: setattr(n, "get", lambda: number),
    "a forward": lambda n, number: setattr(n, "forward", MethodType(lambda self, x: x * number, n)),
    "a hook": lambda n, number: n.register_forward_hook(with_number(number)),
    "a hook before": lambda n, number: n.conv.register_forward_pre_hook(with_number(number)),
    "a hook with keywords": lambda n, number: n.conv.register_forward_hook(with_number(number), with_kwargs=True),
    "a hook of gradients": lambda n, number: n.conv.register_full_backward_hook(with_number(number)),
}


def changed(what, number):
    result = network()
    CHANGES[what](result, number)
    return result


def own_networks():
    return [changed(what, 1.0) for what in CHANGES]


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_a_layer_holds_is_in_the_fingerprint(what):
    first, again, other = (network_fingerprint(changed(what, number)) for number in (1.0, 1.0, 2.0))
    assert first == again != other


def test_a_hook_makes_another_network_until_it_is_removed():
    hooked = network()
    handle = hooked.norm.register_forward_hook(with_number(1))
    assert network_fingerprint(hooked) != network_fingerprint(network())
    handle.remove()
    assert network_fingerprint(hooked) == network_fingerprint(network())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_code_of_a_stored_script_is_in_its_fingerprint():
    class Scaled(nn.Flatten):
        def forward(self, x):
            return x * 2

    twice = Scaled

    class Scaled(nn.Flatten):
        def forward(self, x):
            return x * 3

    def stored(cls):
        torch.jit.save(torch.jit.script(nn.Sequential(cls())), file := io.BytesIO())
        file.seek(0)
        return torch.jit.load(file)

    first, again, other = map(stored, (twice, twice, Scaled))
    assert network_fingerprint(first) == network_fingerprint(again) != network_fingerprint(other)


@pytest.mark.slow
def test_neither_the_mode_nor_a_step_nor_compiling_makes_a_difference():
    plain = network().eval()
    fingerprint = network_fingerprint(plain)
    compiled = torch.compile(plain, backend="eager")
    compiled(torch.ones(2, 1, 4, 4)).sum().backward()
    assert plain.conv.weight.grad is not None
    plain.compile(backend="eager")
    assert network_fingerprint(compiled) == network_fingerprint(plain) == fingerprint
    assert network_fingerprint(plain.train()) == network_fingerprint(copy.deepcopy(plain)) == fingerprint
    plain.conv = torch.compile(plain.conv, backend="eager")
    assert network_fingerprint(plain) == fingerprint


@pytest.mark.parametrize(
    ("network", "fingerprint"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2)), "4d1c96bc"),
        (build("resnet8x0.5", num_classes=10, in_channels=1, image_size=8), "c421bdb4"),
    ],
    ids=["torch", "package"],
)
def test_a_network_of_known_layers_keeps_its_fingerprint(network, fingerprint):
    """If these literals change, every stored run of such a network is trained again."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.5)
    assert network_fingerprint(network) == fingerprint
