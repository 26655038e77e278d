"""Opaque differentiable operators, as torch.compile and torch.export want them."""

from __future__ import annotations

from collections.abc import Callable

import torch

# torch.library.custom_op came with PyTorch 2.4. Before, the same functions make a plain autograd
# function, which torch.compile does not look through.
HAS_CUSTOM_OP = hasattr(torch.library, 'custom_op')

is_compiling = getattr(torch.compiler, 'is_compiling', lambda: False)


def define_operator(
    name: str, schema: str, forward: Callable, fake: Callable, backward: Callable
) -> Callable:
    """Define an operator ``lisa_mm::name``.

    Args:
        name: Name of the operator.
        schema: Its arguments, tensors first, and what it returns.
        forward: Computes it.
        fake: Makes empty outputs of the right shapes, from the same arguments.
        backward: Called with the inputs, the list of the gradients of the
            outputs, and a list that says which tensors want a gradient;
            returns gradients of the tensors, None for those not wanted.

    Returns:
        Callable: The operator.
    """

    def setup_context(ctx, inputs, output):
        tensors = [value for value in inputs if isinstance(value, torch.Tensor)]
        ctx.save_for_backward(*tensors)
        ctx.options = inputs[len(tensors) :]

    def differentiate(ctx, *grads):
        tensors = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[: len(tensors)])
        found = backward([*tensors, *ctx.options], list(grads), wanted)
        return (*found, *(None for _ in ctx.options))

    if HAS_CUSTOM_OP:
        operator = torch.library.custom_op(
            f'lisa_mm::{name}', forward, mutates_args=(), schema=schema
        )
        operator.register_fake(fake)
        operator.register_autograd(differentiate, setup_context=setup_context)
        return operator

    def forward_and_save(ctx, *inputs):
        output = forward(*inputs)
        setup_context(ctx, inputs, output)
        return output

    members = dict(forward=staticmethod(forward_and_save), backward=staticmethod(differentiate))
    return type(name, (torch.autograd.Function,), members).apply


def refuse(inputs: list, grads: list, wanted: list[bool]) -> None:
    """Stand in for the ``backward`` of an operator that is itself a gradient.

    Raises:
        RuntimeError: Always.
    """
    raise RuntimeError(
        'structure-aware attention cannot be differentiated twice: its gradients have no '
        'gradients. Leave out create_graph=True, or the second derivative'
    )
