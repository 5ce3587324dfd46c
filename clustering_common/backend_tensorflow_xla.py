"""What XLA computes for TensorFlow inside our graphs: passes over memory, normal draws."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2

INVERT_FROM = 100_000  # fewer normal draws are made sooner than XLA compiles


@functools.cache
def fused(function: Callable[..., Any], *, has_gradient: bool = True) -> Callable[..., Any]:
    """Return the function compiled by XLA: once in a process, as XLA keeps all it compiled.

    Each graph that calls such a function makes TensorFlow copy its body, and keep the copy for
    ever: 400 kB a fit for the augmentation of images. The operation XlaLaunch, which has no
    gradient, takes the function by its name alone.
    """
    compiled_call = tf.function(function, jit_compile=True, autograph=False)
    if has_gradient:
        return compiled_call
    traced = tf.function(function, autograph=False)

    def call(*args: Any) -> Any:
        """Launch the function from the graph that is being traced, or call it."""
        if tf.executing_eagerly():
            return compiled_call(*args)
        return _launched(traced, [tf.convert_to_tensor(arg) for arg in args])

    return call


def _launched(traced: Any, args: list[Any]) -> Any:
    """Return the results of XlaLaunch, for which TensorFlow has no Python name."""
    concrete = traced.get_concrete_function(*[tf.TensorSpec(arg.shape, arg.dtype) for arg in args])
    if concrete.captured_inputs:
        raise ValueError(f"{traced.__name__} must take all that it reads as arguments.")
    graph = tf.compat.v1.get_default_graph()
    concrete.add_to_graph(graph)
    name = concrete.function_def.signature.name
    launch = graph.create_op(
        "XlaLaunch",
        args,
        [output.dtype for output in concrete.outputs],
        attrs={
            "Tconstants": _types([]),
            "Targs": _types(args),
            "Nresources": attr_value_pb2.AttrValue(i=0),
            "Tresults": _types(concrete.outputs),
            "function": attr_value_pb2.AttrValue(func=attr_value_pb2.NameAttrList(name=name)),
        },
    )
    for result, output in zip(launch.outputs, concrete.outputs, strict=True):
        result.set_shape(output.shape)
    return tf.nest.pack_sequence_as(concrete.structured_outputs, launch.outputs)


def _types(tensors: Sequence[Any]) -> Any:
    """Return the data types of tensors as an attribute of an operation."""
    types = [tensor.dtype.as_datatype_enum for tensor in tensors]
    return attr_value_pb2.AttrValue(list=attr_value_pb2.AttrValue.ListValue(type=types))


def normal(shape: tuple[int, ...], seed: Any) -> Any:
    """Return normal draws, many of them as erfinv of uniform ones.

    TensorFlow's kernel takes a sine, a cosine and a logarithm one at a time: 15 ns of a core for
    each draw, this 6.
    """
    if math.prod(shape) < INVERT_FROM:
        return keras.random.normal(shape, seed=seed)
    return fused(_normal_quantile, has_gradient=False)(
        keras.random.uniform(shape, dtype="float32", seed=seed)
    )


def _normal_quantile(uniform: Any) -> Any:
    """Return the normal quantiles of multiples of 2^-23 in [0, 1), taken in the middle of a step.

    That keeps them symmetric and finite: at most 5.3.
    """
    return math.sqrt(2) * tf.math.erfinv(2 * uniform - (1 - 2**-23))
