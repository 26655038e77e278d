import pytest
import torch
import torch.nn.functional as F

from lisa_mm.models import DepthwiseConv


@pytest.mark.parametrize('kernel_size', [1, 3, 7])
def test_is_a_depthwise_convolution(kernel_size):
    module = DepthwiseConv(4, 1, kernel_size)
    x = torch.randn(2, 4, 5, 6)
    weight, bias = module.conv.weight, module.conv.bias
    for channel in range(4):
        alone = slice(channel, channel + 1)
        expected = F.conv2d(x[:, alone], weight[alone], bias[alone], padding=kernel_size // 2)
        torch.testing.assert_close(module(x)[:, alone], expected)


def test_bad_arguments():
    with pytest.raises(ValueError, match='kernel_size must be a positive odd integer, got 2'):
        DepthwiseConv(8, 2, kernel_size=2)
