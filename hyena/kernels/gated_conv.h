// The gated long convolution: one kernel for the Hyena mixer, each of its orders, and for the long
// convolution alone.
//
//     c[b,d,t] = sum_{s<K} h[d,s] u[b,d,t-s] + skip[d] u[b,d,t]      u = pre . v
//     y        = post . c
//
// Each factor (post, pre, v) is an array, an array behind a short convolution, or absent (ones;
// never v). So
//
//     order-2 mixer        post, pre, v = the three chunks of p, each with its short convolution
//     order N, safari      v <- S_o (x_{N-1-o} . v), the last step with post = x_0
//     order N, paper       v <- x^n . (S_n v)
//     long convolution     v alone
//
// Work is cut into items that the caller spreads over its own threads. Every channel is summed in
// the same order whatever the cut, so equal inputs give equal bits with any number of threads.
//
// Shapes    factors, y, dy: (B, D, L)   h: (D, K), K <= L
// Method    direct sum for short filters, else the right-angle transform
//           (docs/math/right_angle_convolution.md) of the sequence, or for K << L of overlapping
//           windows of it; SIMD across channels, or along time (LaneAxis)
// Memory    nothing of size B D L beyond the arguments: workspaces are per thread and hold a tile
//           of channels of one row and its filter
// Numerics  relative to the norms: |error of c| <= eps log2(2 N) ||h|| ||u||, N < 2 L + 64 the
//           transform size (at least 128 lanes where LaneAxis::kTime is asked for) and
//           eps = 2^-24 (float32) or 2^-53; likewise du with ||g|| = ||dy post||
//           and dh with ||g|| ||u|| summed over the batch. Causal to that bound only, except where
//           the direct form runs. Relative rms errors measured at L = 256
//           to 4096: y and dx below 3e-7, parameters below 1.3e-6.
// Tested by tests/kernels/gated_conv_test.cpp, gated_conv_long_test.cpp
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "hyena/kernels/array.h"

namespace hyena::kernels {

/// What lies in the lanes of a vector during the transform.
enum class LaneAxis {
  kAuto,     // what is faster for the shape
  kChannel,  // a channel per lane
  kTime,     // neighbouring time steps of one channel: the working set of a long sequence shrinks
             // by the number of lanes, and few channels fill the lanes
};

struct GatedConvShape {
  std::int64_t batch = 0;              // B
  std::int64_t channels = 0;           // D
  std::int64_t length = 0;             // L
  std::int64_t filter_length = 0;      // K, 1 <= K <= L (0 only with L == 0)
  std::int64_t taps = 0;               // T of the short convolutions; 0 where no factor has one
  DataType type = DataType::kFloat32;  // of factors, y and their gradients; filters, taps, skips
                                       // and their gradients are float64 iff this is, else float32
  LaneAxis lane_axis = LaneAxis::kAuto;  // of the right-angle transform
  std::int64_t threads = 1;              // that share the items: tiles become no wider than allows
};

/// A factor q of the formulas above: x itself, or where `weight_DT` is set
/// q[b,d,t] = bias[d] + sum_{j<T} weight[d,j] x[b,d,t-(T-1)+j]: conv1d order, the last tap is now.
struct Factor {
  ConstArray x;  // data == nullptr: the factor is absent
  const void* weight_DT = nullptr;
  const void* bias_D = nullptr;
};

/// Where the gradients of a factor go; dweight and dbias may be null.
struct FactorGradient {
  Array dx;
  void* dweight_DT = nullptr;
  void* dbias_D = nullptr;
};

struct FilterArguments {
  const void* h_DK = nullptr;
  const void* skip_D = nullptr;      // or null
  const void* reverse_DK = nullptr;  // or null; c += sum_{s<K} reverse[d,s] u[b,d,t+s]
  const void* spectrum = nullptr;    // or what gated_conv_spectrum made of the three above, which
                                     // are then not read (reverse_DK still says whether it is in
                                     // it); forward only
};

struct GatedConvForward {
  Factor post;
  Factor pre;
  Factor v;
  FilterArguments filter;
  Array y;
};

struct GatedConvBackward {
  Factor post;
  Factor pre;
  Factor v;
  FilterArguments filter;
  ConstArray dy;
  FactorGradient dpost;  // written where the factor is present; may not overlap any input
  FactorGradient dpre;
  FactorGradient dv;
  void* dh_DK = nullptr;
  void* dskip_D = nullptr;      // or null
  void* dreverse_DK = nullptr;  // or null
};

/// How a shape is computed on this CPU: transform size, tiles, sizes of everything. Cheap to make:
/// tables are shared between plans of one length. Immutable, so any number of threads may use it.
class GatedConvPlan {
 public:
  explicit GatedConvPlan(const GatedConvShape& shape);

  [[nodiscard]] const GatedConvShape& shape() const { return shape_; }
  /// "direct" or "right_angle".
  [[nodiscard]] const char* algorithm() const;
  /// Points of the transform, at least L but where windows of the sequence are transformed; 0 for
  /// the direct form.
  [[nodiscard]] std::int64_t transform_length() const;

  /// Bytes of scratch for each thread inside a call: aligned for float64, fastest on 64-byte
  /// boundaries and huge pages (workspace.h).
  [[nodiscard]] std::size_t forward_workspace_bytes() const;
  [[nodiscard]] std::size_t backward_workspace_bytes() const;

  /// How the transform lies in the vectors: kChannel or kTime.
  [[nodiscard]] LaneAxis lane_axis() const;
  /// Bytes of the transformed filters of all channels; 0 for the direct form, which has none. Plans
  /// of one channel count, type, transform length and lane axis read each other's.
  [[nodiscard]] std::size_t spectrum_bytes() const;

  /// Items: tiles of channels for the backward, (tile, row) pairs for the forward, the rows of one
  /// tile adjacent.
  [[nodiscard]] std::int64_t num_forward_items() const { return shape_.batch * num_tiles_; }
  [[nodiscard]] std::int64_t num_backward_items() const { return num_tiles_; }

  struct Internals;
  [[nodiscard]] const Internals& internals() const { return *internals_; }

 private:
  GatedConvShape shape_;
  std::int64_t num_tiles_ = 0;
  std::shared_ptr<const Internals> internals_;
};

/// Writes the transforms of items [begin, end) of the backward's cut, on 64-byte boundaries, for
/// calls that use one filter many times. The workspace is the forward's.
void gated_conv_spectrum(const GatedConvPlan& plan, const FilterArguments& filter,
                         std::int64_t begin, std::int64_t end, void* spectrum, void* workspace);

/// Writes items [begin, end) of y, which may overlap no input. Items of one tile in one call share
/// the transform of its filter.
void gated_conv_forward(const GatedConvPlan& plan, const GatedConvForward& arguments,
                        std::int64_t begin, std::int64_t end, void* workspace);

/// Writes items [begin, end) of every gradient, recomputing what it needs. B = 0 writes zeros to
/// the gradients of the parameters.
void gated_conv_backward(const GatedConvPlan& plan, const GatedConvBackward& arguments,
                         std::int64_t begin, std::int64_t end, void* workspace);

}  // namespace hyena::kernels
