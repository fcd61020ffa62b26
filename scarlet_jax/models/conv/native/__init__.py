"""The native CPU convolution: optional C++ code, built at first use and called through `jax.ffi`.

`kernels.h` has the convolutions. It uses `direct.h` and `winograd.h`, and these use the micro-kernels of `products.h`.
`ffi.cc` binds the kernels to XLA, `check.cc` compares them with plain loops, `build.py` builds and loads the library,
and `ops.py` makes a differentiable JAX function of it. `scarlet_jax.models.conv.api` decides when it is used.
"""
