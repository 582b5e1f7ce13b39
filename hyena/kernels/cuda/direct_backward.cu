#include "hyena/kernels/cuda/direct.h"
namespace hyena::kernels::cuda {
std::size_t direct_backward_workspace(const DirectProblem&) {
  return 256;
}
void direct_backward(const DirectProblem&, const BackwardCall&) {}
}  // namespace hyena::kernels::cuda
