// The gated long convolution by the right-angle transform, written once and compiled for every CPU
// target. Contract: hyena/kernels/gated_conv.h.
#include "hyena/kernels/gated_conv.h"

#include <algorithm>
#include <cstdint>
#include <memory>

#include "hyena/kernels/cpu/gated_conv_plan.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "hyena/kernels/cpu/gated_conv.cpp"
#include <hwy/foreach_target.h>  // re-includes this file once per target
#include <hwy/highway.h>         // must follow foreach_target.h

#include "hyena/kernels/cpu/gated_backward-inl.h"
#include "hyena/kernels/cpu/gated_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hyena::kernels::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

template <class T>
std::size_t run_forward(const GatedConvPlan& plan, const GatedConvForward& arguments,
                        std::int64_t begin, std::int64_t end, void* workspace) {
  Arena arena(workspace);
  Worker<T> worker(plan, arena);
  const std::int64_t width = plan.internals().width;
  FactorStream<T> post(plan.shape(), width, &arguments.post, arena);
  FactorStream<T> pre(plan.shape(), width, &arguments.pre, arena);
  FactorStream<T> v(plan.shape(), width, &arguments.v, arena);
  ResultStream<T> y(plan.shape().type, width, kMostBlockSteps, &arguments.y, arena);
  const std::int64_t batch = plan.shape().batch;
  for (std::int64_t item = begin; item < end; ++item) {
    worker.forward(arguments.filter, post, pre, v, y, worker.tile(item % batch, item / batch));
  }
  hwy::FlushStream();
  return arena.used();
}

template <class T>
void run_spectrum(const GatedConvPlan& plan, const FilterArguments& filter, std::int64_t begin,
                  std::int64_t end, void* spectrum, void* workspace) {
  Arena arena(workspace);
  Worker<T> worker(plan, arena);
  for (std::int64_t item = begin; item < end; ++item) {
    worker.make_spectra(filter, worker.tile(0, item), static_cast<T*>(spectrum));
  }
}

template <class T>
std::size_t run_backward(const GatedConvPlan& plan, const GatedConvBackward& arguments,
                         std::int64_t begin, std::int64_t end, void* workspace) {
  Arena arena(workspace);
  BackwardWorker<T> worker(plan, arguments, arena);
  for (std::int64_t item = begin; item < end; ++item) {
    worker.backward(item);
  }
  hwy::FlushStream();
  return arena.used();
}

std::int64_t num_lanes(DataType type) {
  return static_cast<std::int64_t>(type == DataType::kFloat64
                                       ? hn::Lanes(hn::ScalableTag<double>())
                                       : hn::Lanes(hn::ScalableTag<float>()));
}

/// Returns the bytes of workspace it used; a null workspace with no items only counts them.
std::size_t forward_items(const GatedConvPlan& plan, const GatedConvForward& arguments,
                          std::int64_t begin, std::int64_t end, void* workspace) {
  return plan.shape().type == DataType::kFloat64
             ? run_forward<double>(plan, arguments, begin, end, workspace)
             : run_forward<float>(plan, arguments, begin, end, workspace);
}

void spectrum_items(const GatedConvPlan& plan, const FilterArguments& filter, std::int64_t begin,
                    std::int64_t end, void* spectrum, void* workspace) {
  plan.shape().type == DataType::kFloat64
      ? run_spectrum<double>(plan, filter, begin, end, spectrum, workspace)
      : run_spectrum<float>(plan, filter, begin, end, spectrum, workspace);
}

std::size_t backward_items(const GatedConvPlan& plan, const GatedConvBackward& arguments,
                           std::int64_t begin, std::int64_t end, void* workspace) {
  return plan.shape().type == DataType::kFloat64
             ? run_backward<double>(plan, arguments, begin, end, workspace)
             : run_backward<float>(plan, arguments, begin, end, workspace);
}

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hyena::kernels {
namespace cpu {

HWY_EXPORT(num_lanes);
HWY_EXPORT(forward_items);
HWY_EXPORT(spectrum_items);
HWY_EXPORT(backward_items);

namespace {

// Here, because a build for a single target dispatches by name within this namespace.
std::int64_t dispatch_lanes(DataType type) {
  return HWY_DYNAMIC_DISPATCH(num_lanes)(type);
}
std::size_t dispatch_forward(const GatedConvPlan& plan, const GatedConvForward& arguments,
                             std::int64_t begin, std::int64_t end, void* workspace) {
  return HWY_DYNAMIC_DISPATCH(forward_items)(plan, arguments, begin, end, workspace);
}
void dispatch_spectrum(const GatedConvPlan& plan, const FilterArguments& filter, std::int64_t begin,
                       std::int64_t end, void* spectrum, void* workspace) {
  HWY_DYNAMIC_DISPATCH(spectrum_items)(plan, filter, begin, end, spectrum, workspace);
}
std::size_t dispatch_backward(const GatedConvPlan& plan, const GatedConvBackward& arguments,
                              std::int64_t begin, std::int64_t end, void* workspace) {
  return HWY_DYNAMIC_DISPATCH(backward_items)(plan, arguments, begin, end, workspace);
}

}  // namespace
}  // namespace cpu

GatedConvPlan::GatedConvPlan(const GatedConvShape& shape) : shape_(shape) {
  const auto internals = std::make_shared<Internals>();
  internals_ = internals;
  const bool is_double = shape.type == DataType::kFloat64;
  const std::int64_t lanes = cpu::dispatch_lanes(shape.type);
  internals->is_direct = shape.filter_length <= cpu::kMostDirectTaps;
  if (internals->is_direct) {
    internals->size = std::max<std::int64_t>(1, shape.length);
    internals->rows.group = internals->size + 1;  // no free rows
    internals->tables_f32 = std::make_shared<const cpu::FftTables<float>>();
    internals->tables_f64 = std::make_shared<const cpu::FftTables<double>>();
  } else {
    const std::int64_t window = cpu::window_size(shape, lanes);
    internals->is_windowed = window > 0;
    const bool time_lanes = !internals->is_windowed && cpu::lanes_along_time(shape, lanes);
    internals->steps_per_row = time_lanes ? lanes : 1;
    const std::int64_t along_time = internals->steps_per_row;
    internals->size = internals->is_windowed
                          ? window
                          : cpu::supported_fft_size(shape.length, cpu::least_fft_size(along_time));
    if (is_double) {
      internals->tables_f64 = cpu::fft_tables<double>(internals->size, along_time);
      internals->rows = internals->tables_f64->rows;
    } else {
      internals->tables_f32 = cpu::fft_tables<float>(internals->size, along_time);
      internals->rows = internals->tables_f32->rows;
    }
  }
  const std::int64_t scalar_bytes = is_double ? 8 : 4;
  const std::int64_t groups = (shape.channels + lanes - 1) / lanes;
  internals->lanes = lanes;
  internals->width =
      lanes * cpu::tile_vectors(groups, internals->size, lanes * scalar_bytes, shape.threads);
  num_tiles_ = (shape.channels + internals->width - 1) / internals->width;

  if (!internals->is_direct) {
    const std::int64_t unit = lanes / internals->steps_per_row;
    const std::int64_t units = (shape.channels + unit - 1) / unit;
    const std::int64_t rows = internals->rows.at(internals->size / internals->steps_per_row);
    internals->spectrum_bytes = static_cast<std::size_t>(units * 2 * rows * lanes * scalar_bytes);
  }

  // The same constructors that cut the workspace count it; a weight makes them count the taps.
  Factor factor;
  factor.weight_DT = shape.taps > 0 ? this : nullptr;
  GatedConvForward forward;
  forward.post = forward.pre = forward.v = factor;
  GatedConvBackward backward;
  backward.post = backward.pre = backward.v = factor;
  internals->forward_workspace_bytes = cpu::dispatch_forward(*this, forward, 0, 0, nullptr);
  internals->backward_workspace_bytes = cpu::dispatch_backward(*this, backward, 0, 0, nullptr);
}

const char* GatedConvPlan::algorithm() const {
  return internals_->is_direct ? "direct" : "right_angle";
}

std::int64_t GatedConvPlan::transform_length() const {
  return internals_->is_direct ? 0 : internals_->size;
}

LaneAxis GatedConvPlan::lane_axis() const {
  return internals_->steps_per_row > 1 ? LaneAxis::kTime : LaneAxis::kChannel;
}

std::size_t GatedConvPlan::spectrum_bytes() const {
  return internals_->spectrum_bytes;
}

std::size_t GatedConvPlan::forward_workspace_bytes() const {
  return internals_->forward_workspace_bytes;
}

std::size_t GatedConvPlan::backward_workspace_bytes() const {
  return internals_->backward_workspace_bytes;
}

void gated_conv_forward(const GatedConvPlan& plan, const GatedConvForward& arguments,
                        std::int64_t begin, std::int64_t end, void* workspace) {
  cpu::dispatch_forward(plan, arguments, begin, end, workspace);
}

void gated_conv_spectrum(const GatedConvPlan& plan, const FilterArguments& filter,
                         std::int64_t begin, std::int64_t end, void* spectrum, void* workspace) {
  cpu::dispatch_spectrum(plan, filter, begin, end, spectrum, workspace);
}

void gated_conv_backward(const GatedConvPlan& plan, const GatedConvBackward& arguments,
                         std::int64_t begin, std::int64_t end, void* workspace) {
  cpu::dispatch_backward(plan, arguments, begin, end, workspace);
}

}  // namespace hyena::kernels
#endif  // HWY_ONCE
