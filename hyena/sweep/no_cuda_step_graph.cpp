#include "hyena/sweep/step_graph.h"

namespace hyena::sweep {

struct StepGraph::Recording {};

StepGraph::StepGraph(at::Device /*device*/, bool /*enabled*/) {}
StepGraph::~StepGraph() = default;

// NOLINTNEXTLINE(readability-convert-member-functions-to-static): with CUDA it is none
void StepGraph::run(const std::function<void()>& work) {
  work();
}

bool StepGraph::is_recorded() const {
  return recording_ != nullptr;
}

}  // namespace hyena::sweep
