// What a plan knows beyond its public part.
#pragma once

#include <cstdint>
#include <memory>

#include "hyena/kernels/cpu/fft_tables.h"
#include "hyena/kernels/gated_conv.h"

namespace hyena::kernels {

struct GatedConvPlan::Internals {
  std::int64_t lanes = 0;  // of the instruction set that made the plan; it must also run it
  std::int64_t width = 0;  // lanes of a tile
  bool is_direct = false;
  bool is_windowed = false;        // the transform is shorter than the sequence
  std::int64_t size = 0;           // packed steps of a signal: the transform's points, or L
  std::int64_t steps_per_row = 1;  // 1: a row holds a step of `lanes` channels; or lanes
  cpu::RowGeometry rows;
  std::shared_ptr<const cpu::FftTables<float>> tables_f32;  // one of the two, by type
  std::shared_ptr<const cpu::FftTables<double>> tables_f64;
  std::size_t spectrum_bytes = 0;
  std::size_t forward_workspace_bytes = 0;
  std::size_t backward_workspace_bytes = 0;
};

}  // namespace hyena::kernels
