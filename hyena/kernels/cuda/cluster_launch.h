// Launches of clusters of blocks.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "hyena/kernels/cuda/launch.h"

namespace hyena::kernels::cuda {

/// Runs kKernel in clusters of c blocks: as many as the device holds at once, or one for each of
/// `rows`. Asks CUDA once per kernel how many that is.
template <auto kKernel, class... Args>
void launch_clusters(int c, std::int64_t rows, int threads, int shared_bytes, cudaStream_t stream,
                     const Args&... args) {
  allow_shared_memory<kKernel>(shared_bytes);
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = static_cast<unsigned>(c);
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(c));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shared_bytes);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  static std::atomic<int> resident{0};
  int clusters = resident.load(std::memory_order_relaxed);
  if (clusters == 0) {
    config.gridDim = dim3(static_cast<unsigned>(c) * 1024);
    check(cudaOccupancyMaxActiveClusters(&clusters, kKernel, &config), "clusters of the mixer");
    clusters = std::max(1, clusters);
    resident.store(clusters, std::memory_order_relaxed);
  }
  const auto used = static_cast<unsigned>(std::min<std::int64_t>(clusters, rows));
  config.gridDim = dim3(used * static_cast<unsigned>(c));
  check(cudaLaunchKernelEx(&config, kKernel, args...), "launch of a cluster kernel of the mixer");
}

}  // namespace hyena::kernels::cuda
