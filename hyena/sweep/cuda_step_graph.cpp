#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "hyena/sweep/step_graph.h"

namespace hyena::sweep {
namespace {

constexpr int kWarmUpCalls = 3;

}  // namespace

struct StepGraph::Recording {
  explicit Recording(at::Device device)
      : stream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())) {}

  c10::cuda::CUDAStreamGuard stream;
  at::cuda::CUDAGraph graph;
  int calls = 0;
  bool is_recorded = false;
};

StepGraph::StepGraph(at::Device device, bool enabled) {
  if (enabled && device.is_cuda()) {
    recording_ = std::make_unique<Recording>(device);
  }
}

StepGraph::~StepGraph() = default;

void StepGraph::run(const std::function<void()>& work) {
  if (!recording_ || recording_->calls++ < kWarmUpCalls) {
    work();
    return;
  }
  if (!recording_->is_recorded) {
    recording_->graph.capture_begin();
    work();
    recording_->graph.capture_end();
    recording_->is_recorded = true;
  }
  recording_->graph.replay();
}

bool StepGraph::is_recorded() const {
  return recording_ && recording_->is_recorded;
}

}  // namespace hyena::sweep
