// A training step as one CUDA graph: a model of width 64 launches some hundred kernels per step,
// each shorter than its launch.
#pragma once

#include <functional>
#include <memory>

#include <c10/core/Device.h>

namespace hyena::sweep {

/// Records the kernels of a function and replays them in place of calling it.
///
/// The function has to read from and write to tensors that live as long as the graph, must not
/// wait for the device, and is called with undefined gradients until it is recorded; from then on
/// its gradients stay where they are and every replay overwrites them.
class StepGraph {
 public:
  /// While it lives, the device's current stream is one of its own: the default one cannot be
  /// recorded. Off a GPU, or without `enabled`, run() only calls.
  StepGraph(at::Device device, bool enabled);
  ~StepGraph();
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  /// Calls `work` the first few times, in which libraries make their plans and workspaces; records
  /// it once; replays it from then on.
  void run(const std::function<void()>& work);
  [[nodiscard]] bool is_recorded() const;

 private:
  struct Recording;
  std::unique_ptr<Recording> recording_;
};

}  // namespace hyena::sweep
