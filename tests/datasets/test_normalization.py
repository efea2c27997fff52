import pytest
import torch

from ltkd import ConfigError
from ltkd.datasets.normalization import NORMALIZATIONS, Normalizer


def images(channels=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (20, channels, 8, 8), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", [name for name, values in NORMALIZATIONS.items() if values])
def test_a_named_normalization_subtracts_its_mean_and_divides_by_its_deviation(name):
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in NORMALIZATIONS[name])
    normalized = Normalizer(*NORMALIZATIONS[name])(images())
    torch.testing.assert_close(normalized, (images() / 255 - mean) / std)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_datas_own_normalization_gives_mean_0_and_deviation_1(channels):
    normalized = Normalizer.of(images(channels))(images(channels)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(normalized.mean(1), torch.zeros(channels), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalized.std(1, correction=0), torch.ones(channels), atol=1e-4, rtol=0)


def test_images_of_other_channels_are_refused():
    with pytest.raises(ConfigError, match=r"of 3 channels, but these images have 1: choose normalization = 'data'"):
        Normalizer(*NORMALIZATIONS["cifar10"])(images(channels=1))


def test_images_of_one_colour_stay_finite():
    plain = torch.full((4, 1, 8, 8), 77, dtype=torch.uint8)
    assert Normalizer.of(plain)(plain).isfinite().all()


def test_normalized_images_lie_channels_last():
    assert Normalizer.of(images())(images()).is_contiguous(memory_format=torch.channels_last)
