"""The native CPU convolution: C++ through `jax.ffi`, built at first use, optional.

`kernels.h` computes (`direct.h` and `winograd.h`, over the micro-kernels of `products.h`), `ffi.cc` binds it to XLA,
`check.cc` compares it with plain loops, `build.py` builds and loads it,
`ops.py` makes a differentiable JAX function of it. `scarlet_jax.models.conv.api` decides when it is used.
"""
