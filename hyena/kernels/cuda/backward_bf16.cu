#include "hyena/kernels/cuda/backward_kernel.cuh"

namespace hyena::kernels::cuda {

template void launch_backward<__nv_bfloat16>(const BackwardArgs<__nv_bfloat16>&, int, bool, int,
                                             const CUtensorMap&, const CUtensorMap&, cudaStream_t);

}  // namespace hyena::kernels::cuda
