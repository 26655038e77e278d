import pytest
import torch

from lisa_mm.models import ExternalAttention


@pytest.mark.parametrize('multi_head', [False, True])
def test_is_a_lookup_in_the_memories(multi_head):
    torch.manual_seed(0)
    module = ExternalAttention(8, 2, memory_size=5, multi_head=multi_head).double()
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    heads = 2 if multi_head else 1
    query = module.query(x).view(2, heads, 8 // heads, 12).transpose(2, 3)
    logits = query @ module.memory_key.T  # (B, G, N, S)
    weights = logits.exp() / logits.exp().sum(2, keepdim=True)
    weights = weights / weights.sum(3, keepdim=True)
    out = (weights @ module.memory_value).transpose(2, 3).reshape(x.shape)
    torch.testing.assert_close(module(x), module.proj(out))


def test_double_normalisation():
    module = ExternalAttention(8, 2, memory_size=5)
    query = torch.randn(2, 2, 4, 12)
    sums = module.weights(query).sum(2)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    # what all positions have in common drops out: the scale of a slot does not matter
    shifted = query + torch.randn(2, 2, 4, 1)
    torch.testing.assert_close(module.weights(shifted), module.weights(query))


def test_slots_that_a_position_is_far_from():
    """All of them less than float32 can say, against the slots of another position."""
    module = ExternalAttention(4, 1, memory_size=3)
    query = torch.randn(1, 1, 4, 5) * 1e3
    query.requires_grad_()
    weights = module.weights(query)
    weights.square().sum().backward()
    assert weights.isfinite().all() and query.grad.isfinite().all()
    torch.testing.assert_close(weights.sum(2), torch.ones(1, 1, 5))


def test_memories_are_shared_by_the_heads():
    assert ExternalAttention(8, 4, memory_size=5).memory_key.shape == (5, 2)
    assert ExternalAttention(8, 4, memory_size=5, multi_head=False).memory_key.shape == (5, 8)


def test_has_no_kernels():
    assert not hasattr(ExternalAttention(8, 2), 'kernels')


def test_bad_arguments():
    with pytest.raises(ValueError, match='memory_size must be an integer of at least 1, got 0'):
        ExternalAttention(8, 2, memory_size=0)
