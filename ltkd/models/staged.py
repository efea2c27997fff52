"""The forward pass of every family of networks, written once."""

from itertools import chain

from torch import nn

from .features import FeatureOutput


class StagedNetwork(nn.Module):
    """stem -> stages -> tail -> global average pooling -> fc.

    stem, and each block of each stage: a module that returns a map before its last activation; `activation` (ReLU by
    default) follows, so that the next block takes an activated map. tail: what comes after the last stage's activation
    (by default nothing). width: channels of the last map. `fc` may be replaced by any module that takes (B, width).
    """

    def __init__(self, stem, stages, width, num_classes, *, activation=None, tail=None):
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(nn.ModuleList(blocks) for blocks in stages)
        self.activation = activation or nn.ReLU()
        self.tail = tail or nn.Identity()
        self.fc = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.features(x).logits

    def features(self, x):
        before = [self.stem(x)]
        after = [self.activation(before[0])]
        for *blocks, last in self.stages:
            before.append(last(self._through(blocks, after[-1])))
            after.append(self.activation(before[-1]))
        return self._output(before, after, self.tail(after[-1]))

    @property
    def last_block(self):
        """The last block of the last stage, which `finish` applies unless it is given another."""
        return self.stages[-1][-1]

    def trunk(self, x):
        """What the last block of the last stage takes."""
        *blocks, _ = chain.from_iterable(self.stages)
        return self._through(blocks, self.activation(self.stem(x)))

    def finish(self, x, block=None):
        """The pooled features (B, D) of what `trunk` returned; block: in place of the last block, such as its copy."""
        block = self.last_block if block is None else block
        return _pool(self.tail(self.activation(block(x))))

    def _through(self, blocks, x):
        for block in blocks:
            x = self.activation(block(x))
        return x

    def _output(self, before, after, last_map):
        pooled = _pool(last_map)
        return FeatureOutput(self.fc(pooled), tuple(after), pooled, tuple(before), last_map)


def _pool(last_map):
    return last_map.mean((2, 3))
