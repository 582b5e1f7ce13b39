"""The ops as Python sees them: opcheck, autograd, torch.compile.

    python ops_test.py build/cpu/lib/libhyena_ops.so

Run by ctest where `import torch` works; the C++ set-up alone does not install what that needs.
"""

import itertools
import sys

import torch


def sequence(batch, channels, length, layout, dtype=torch.float32):
    """Leaf tensors in the layouts that callers have."""
    x = torch.randn(batch, channels, length, dtype=dtype)
    if layout == "channels_last":
        x = x.transpose(1, 2).contiguous().transpose(1, 2)
    return x.requires_grad_(True)


def parameter(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=dtype).requires_grad_(True)


def cases(dtype=torch.float32, seed=0):
    """(name, op, args) for every op, with and without what is optional."""
    torch.manual_seed(seed)
    B, D, L, K, T = 2, 3, 9, 7, 3
    ops = torch.ops.hyena
    p = lambda *shape: parameter(*shape, dtype=dtype)
    for layout in ("contiguous", "channels_last"):
        x = lambda channels: sequence(B, channels, L, layout, dtype)
        yield f"short_conv {layout}", ops.short_conv.default, (x(D), p(D, T), p(D))
        yield f"short_conv no bias {layout}", ops.short_conv.default, (x(D), p(D, T), None)
        for algorithm in ("auto", "direct", "fft"):
            yield (f"long_conv {algorithm} {layout}", ops.long_conv.default,
                   (x(D), p(D, K), p(D), p(D, K), algorithm))
        yield f"long_conv bare {layout}", ops.long_conv.default, (x(D), p(D, K))
        for mode, order in itertools.product(("safari", "paper"), (2, 3)):
            M = order - 1 if mode == "safari" else order
            C = (order + 1) * D
            yield (f"hyena_mixer {mode} {order} {layout}", ops.hyena_mixer.default,
                   (x(C), p(C, T), p(C), p(M, D, K), p(M, D), mode))
            yield (f"hyena_mixer {mode} {order} bare {layout}", ops.hyena_mixer.default,
                   (x(C), p(C, T), None, p(M, D, K), None, mode))
    E, W, M = 5, 4, 2
    weights, biases = [p(W, E), p(W, W), p(M * D, W)], [p(W), p(W)]
    for layout, normalized in itertools.product(("safari", "standalone"), (False, True)):
        t = torch.linspace(0, 1, K, dtype=dtype)
        yield (f"implicit_filter {layout} normalized {normalized}", ops.implicit_filter.default,
               (p(K, E), weights, biases, p(W), t, p(M * D), 0.05, normalized, M, layout))
        yield (f"implicit_filter {layout} no window", ops.implicit_filter.default,
               (p(K, E), weights, biases, p(W), None, None, 0.0, normalized, M, layout))


def leaves(args):
    for arg in args:
        if isinstance(arg, torch.Tensor) and arg.requires_grad:
            yield arg
        elif isinstance(arg, list):
            yield from leaves(arg)


def check_opcheck():
    """Schema, fake tensors, registration of autograd, and AOTAutograd with dynamic shapes."""
    failures = 0
    for name, op, args in cases():
        result = torch.library.opcheck(op, args, raise_exception=False)
        bad = {test: outcome for test, outcome in result.items() if outcome != "SUCCESS"}
        failures += bool(bad)
        print(f"opcheck {name}: {'FAILED' if bad else 'passed'} ({len(result)} tests)")
        for test, outcome in bad.items():
            print(f"  {test}: {outcome}")
    return failures


def check_gradients():
    """Python's gradcheck through the registered op."""
    failures = 0
    for name, op, args in cases(torch.float64):
        inputs = list(leaves(args))

        def loss(*_, op=op, args=args):
            return op(*args)

        passed = torch.autograd.gradcheck(loss, inputs, raise_exception=False)
        failures += not passed
        print(f"gradcheck {name}: {'passed' if passed else 'FAILED'}")
    return failures


def check_compile():
    """torch.compile without a graph break, against eager: same ops, so the same bits."""
    failures = 0
    for name, op, args in cases():
        function = lambda *a, op=op: op(*a).square().sum()
        expected = function(*args)
        inputs = list(leaves(args))
        gradients = torch.autograd.grad(expected, inputs)
        torch.compiler.reset()
        compiled = torch.compile(function, backend="aot_eager", fullgraph=True)
        try:
            actual = compiled(*args)
            same = torch.equal(actual, expected) and all(
                torch.equal(a, b) for a, b in zip(torch.autograd.grad(actual, inputs), gradients))
        except Exception as error:  # what failed is printed; the other cases still run
            same = False
            print(f"  {type(error).__name__}: {str(error).splitlines()[0]}")
        failures += not same
        print(f"compile {name}: {'passed' if same else 'FAILED'}")
    return failures


def check_errors():
    """Users' mistakes arrive as ValueError, with the whole message."""
    u, h = torch.zeros(2, 3, 7), torch.zeros(3, 8)
    expected = ("[long_conv] h: expected 1 <= K <= L=7 taps, got K=8: "
                "cut the filter to its first L taps.")
    try:
        torch.ops.hyena.long_conv(u, h)
    except ValueError as error:
        if str(error).splitlines()[0] == expected:
            print("error message: passed")
            return 0
        print(f"error message: FAILED: {error}")
    return 1


def main():
    torch.set_num_threads(1)
    torch.ops.load_library(sys.argv[1])
    failures = check_opcheck() + check_gradients() + check_compile() + check_errors()
    print(f"torch {torch.__version__}: {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
