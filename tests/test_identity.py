import os
import subprocess
import sys
import textwrap
from types import MethodType

import pytest
from helpers import PROJECT
from torch import nn

from ltkd import METHODS
from ltkd.identity import class_code, network_fingerprint
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


def test_another_process_finds_the_same_code():
    script = "from test_identity import class_code, own_class; print(class_code(own_class()))"
    where = {"PYTHONPATH": str(PROJECT / "tests"), "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ | where)
    assert done.stdout.split() == [class_code(own_class())], done.stderr


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
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2)), "346ee966"),
        (build("resnet8x0.5", num_classes=10, in_channels=1, image_size=8), "0a26cac3"),
    ],
    ids=["torch", "package"],
)
def test_a_network_of_known_layers_keeps_its_fingerprint(network, fingerprint):
    """Whoever changes these literals makes every stored run of such a network a stranger."""
    for parameter in network.parameters():
        nn.init.constant_(parameter, 0.5)
    assert network_fingerprint(network) == fingerprint


def test_the_mode_that_a_network_is_in_makes_no_difference():
    network = own_class(NETWORK)()
    assert network_fingerprint(network.eval()) == network_fingerprint(network.train())
