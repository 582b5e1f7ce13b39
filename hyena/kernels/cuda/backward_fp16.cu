#include "hyena/kernels/cuda/backward_kernel.cuh"

namespace hyena::kernels::cuda {

template void launch_backward<__half>(const BackwardArgs<__half>&, int, bool, int,
                                      const CUtensorMap&, const CUtensorMap&, cudaStream_t);

}  // namespace hyena::kernels::cuda
