// The short convolution alone, compiled for every CPU target. Contract: hyena/kernels/short_conv.h.
#include "hyena/kernels/short_conv.h"

#include <cstdint>

#include "hyena/kernels/cpu/short_conv_call.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "hyena/kernels/cpu/short_conv.cpp"
#include <hwy/foreach_target.h>  // re-includes this file once per target
#include <hwy/highway.h>         // must follow foreach_target.h

#include "hyena/kernels/cpu/stream-inl.h"

HWY_BEFORE_NAMESPACE();
namespace hyena::kernels::cpu::HWY_NAMESPACE {
namespace {

template <class T>
class ShortWorker {
  using Tag = hn::ScalableTag<T>;

 public:
  ShortWorker(const ShortCall& call, Arena& arena)
      : shape_(call.shape),
        stream_shape_{.batch = shape_.batch,
                      .channels = shape_.channels,
                      .length = shape_.length,
                      .taps = shape_.taps,
                      .type = shape_.type},
        width_(kShortConvVectors * static_cast<std::int64_t>(hn::Lanes(Tag()))),
        output_gradient_{.x = call.dq != nullptr ? *call.dq : ConstArray{}},
        x_(stream_shape_, width_, &call.x, arena),
        q_(shape_.type, width_, kBlockSteps, call.q, arena),
        dq_(stream_shape_, width_, &output_gradient_, arena),
        dx_(stream_shape_, width_, x_, &call.dx, arena) {}

  void forward(std::int64_t item) {
    for (std::int64_t b = 0; b < shape_.batch; ++b) {
      const Tile tile = this->tile(b, item);
      x_.open(tile);
      q_.open(tile);
      for (std::int64_t begin = 0; begin < shape_.length; begin += kBlockSteps) {
        const Block block = block_at(begin);
        x_.read(block);
        copy(block, x_.values(block), q_.rows(block));
        q_.write(block);
      }
      q_.close();
    }
  }

  void backward(std::int64_t item) {
    dx_.open_sums(tile(0, item));
    for (std::int64_t b = 0; b < shape_.batch; ++b) {
      const Tile tile = this->tile(b, item);
      x_.open(tile);
      dq_.open(tile);
      dx_.open(tile);
      for (std::int64_t begin = 0; begin < shape_.length; begin += kBlockSteps) {
        const Block block = block_at(begin);
        x_.read(block);
        dq_.read(block);
        copy(block, dq_.x(), dx_.dq(block));
        dx_.write(block);
      }
      dx_.close(shape_.length);
    }
    dx_.close_sums();
  }

  [[nodiscard]] std::int64_t items() const { return (shape_.channels + width_ - 1) / width_; }

 private:
  [[nodiscard]] Tile tile(std::int64_t batch, std::int64_t item) const {
    const std::int64_t left = shape_.channels - item * width_;
    return {batch, item * width_, left < width_ ? left : width_, width_};
  }
  [[nodiscard]] Block block_at(std::int64_t begin) const {
    const std::int64_t left = shape_.length - begin;
    return {begin, left < kBlockSteps ? left : kBlockSteps};
  }

  void copy(Block block, Rows<const T> from, Rows<T> to) const {
    to.use == Use::kResult ? copy<Use::kResult>(block, from, to)
                           : copy<Use::kSoon>(block, from, to);
  }

  template <Use kUse>
  void copy(Block block, Rows<const T> from, Rows<T> to) const {
    const Tag tag;
    for_vectors<T>(width_, block.steps, [&](std::int64_t c, std::int64_t t) HWY_ATTR {
      store_rows<kUse>(tag, hn::LoadU(tag, from.data + t * from.stride + c),
                       to.data + t * to.stride + c);
    });
  }

  ShortConvShape shape_;
  GatedConvShape stream_shape_;
  std::int64_t width_;
  Factor output_gradient_;
  FactorStream<T> x_;
  ResultStream<T> q_;
  FactorStream<T> dq_;
  FactorGradientStream<T> dx_;
};

template <class T>
ShortSizes run(const ShortCall& call, void* workspace) {
  Arena arena(workspace);
  ShortWorker<T> worker(call, arena);
  for (std::int64_t item = call.begin; item < call.end; ++item) {
    call.q != nullptr ? worker.forward(item) : worker.backward(item);
  }
  hwy::FlushStream();
  return {worker.items(), arena.used()};
}

ShortSizes short_conv_call(const ShortCall& call, void* workspace) {
  return call.shape.type == DataType::kFloat64 ? run<double>(call, workspace)
                                               : run<float>(call, workspace);
}

}  // namespace
}  // namespace hyena::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace hyena::kernels {
namespace cpu {

HWY_EXPORT(short_conv_call);

namespace {

// Here, because a build for a single target dispatches by name within this namespace.
ShortSizes dispatch(const ShortCall& call, void* workspace) {
  return HWY_DYNAMIC_DISPATCH(short_conv_call)(call, workspace);
}

ShortSizes sizes(const ShortConvShape& shape) {
  Factor filtered;
  filtered.weight_DT = &shape;  // any address: taps are counted where there is a weight
  return dispatch({shape, filtered, nullptr, nullptr, {}, 0, 0}, nullptr);
}

}  // namespace
}  // namespace cpu

std::int64_t short_conv_items(const ShortConvShape& shape) {
  return cpu::sizes(shape).items;
}

std::size_t short_conv_workspace_bytes(const ShortConvShape& shape) {
  return cpu::sizes(shape).workspace_bytes;
}

void short_conv_forward(const ShortConvShape& shape, const Factor& x, const Array& q,
                        std::int64_t begin, std::int64_t end, void* workspace) {
  cpu::dispatch({shape, x, &q, nullptr, {}, begin, end}, workspace);
}

void short_conv_backward(const ShortConvShape& shape, const Factor& x, const ConstArray& dq,
                         const FactorGradient& dx, std::int64_t begin, std::int64_t end,
                         void* workspace) {
  cpu::dispatch({shape, x, nullptr, &dq, dx, begin, end}, workspace);
}

}  // namespace hyena::kernels
#endif  // HWY_ONCE
