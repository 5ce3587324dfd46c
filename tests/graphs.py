"""What tests ask of TensorFlow's graphs."""


def before(operation):
    """Return the operations that end before this one begins."""
    found, new = set(), [operation]
    while new:
        operation = new.pop()
        ops = {tensor.op for tensor in operation.inputs} | set(operation.control_inputs)
        new += ops - found
        found |= ops
    return found
