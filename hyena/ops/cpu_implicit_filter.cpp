#include "hyena/ops/cpu_implicit_filter.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "hyena/kernels/implicit_filter.h"
#include "hyena/ops/cpu_gated_conv.h"
#include "hyena/ops/kept_memory.h"

namespace hyena::ops::cpu {
namespace {

/// Time steps of a block, and the bytes of its (C, steps) product: half a second-level cache.
constexpr std::int64_t kMostSteps = 256;
constexpr std::int64_t kLeastSteps = 16;
constexpr std::int64_t kProductBytes = std::int64_t{1} << 20;

/// Partial sums of a backward: enough for as many threads, yet small beside a long filter.
constexpr std::int64_t kMostGroups = 64;

constexpr std::int64_t parts(std::int64_t n, std::int64_t size) {
  return (n + size - 1) / size;
}

/// Writes a b, or adds it.
void multiply(const at::Tensor& a, const at::Tensor& b, at::Tensor out, bool add = false) {
  at::addmm_out(out, out, a, b, /*beta=*/add ? 1 : 0);
}

/// In order of the rows. One parallel region: an addition per row would be as many barriers.
void add_rows_to_the_first(const at::Tensor& rows) {
  constexpr std::int64_t kGrain = 4096;
  at::parallel_for(0, rows.size(1), kGrain, [&](std::int64_t begin, std::int64_t end) {
    const at::AutoDispatchBelowADInplaceOrView below;
    const auto columns = rows.narrow(1, begin, end - begin).unbind(0);
    const at::Tensor& total = columns[0];
    for (std::size_t i = 1; i < columns.size(); ++i) {
      total.add_(columns[i]);
    }
  });
}

/// Gradients of the parameters as views of one row of floats, so that sums of them are one loop.
struct ParameterSums {
  std::vector<at::Tensor> weights;
  std::vector<at::Tensor> biases;
  at::Tensor freq_W;
  at::Tensor deltas_C;

  ParameterSums(const at::Tensor& row, at::TensorList like_weights, std::int64_t W) {
    std::int64_t begin = 0;
    const auto take = [&](at::IntArrayRef sizes) {
      const std::int64_t count = c10::multiply_integers(sizes);
      begin += count;
      return row.narrow(0, begin - count, count).view(sizes);
    };
    for (const at::Tensor& weight : like_weights) {
      weights.push_back(take(weight.sizes()));
    }
    for (std::size_t i = 0; i + 1 < like_weights.size(); ++i) {
      biases.push_back(take({W}));
    }
    freq_W = take({W});
    deltas_C = take({like_weights.back().size(0)});
  }

  static std::int64_t count(at::TensorList weights, std::int64_t W) {
    std::int64_t total = static_cast<std::int64_t>(weights.size()) * W + weights.back().size(0);
    for (const at::Tensor& weight : weights) {
      total += weight.numel();
    }
    return total;
  }
};

/// The filter with its arguments as the kernels want them.
class BlockedFilter {
 public:
  BlockedFilter(const at::Tensor& z_KE, at::TensorList weights, at::TensorList biases,
                const at::Tensor& freq_W, const FilterWindow& window, std::int64_t M,
                ChannelLayout layout)
      : z_KE_(z_KE),
        weights_(weights.vec()),
        freq_W_(freq_W.contiguous()),
        shift_(window.shift),
        K_(z_KE.size(0)),
        W_(freq_W.numel()),
        C_(weights.back().size(0)),
        M_(M),
        interleaved_(layout == ChannelLayout::kSafari ? M : 1) {
    for (const at::Tensor& bias : biases) {
      biases_.push_back(bias.contiguous());
    }
    if (window.t_K.defined()) {
      t_K_ = window.t_K.contiguous();
      deltas_C_ = window.deltas_C.contiguous();
    }
    const auto floats = static_cast<std::int64_t>(sizeof(float));
    steps_ = std::clamp(kProductBytes / (C_ * floats) / kLeastSteps * kLeastSteps, kLeastSteps,
                        kMostSteps);
  }

  [[nodiscard]] at::Tensor forward() const {
    at::Tensor h_MDK = empty_kept({M_, C_ / M_, K_}, at::kFloat);
    auto* h = h_MDK.mutable_data_ptr<float>();
    at::parallel_for(0, blocks(), /*grain_size=*/1, [&](std::int64_t begin, std::int64_t end) {
      const at::AutoDispatchBelowADInplaceOrView below;  // threads start without
      const Scratch scratch(*this);
      for (std::int64_t i = begin; i < end; ++i) {
        const Block block(scratch, i);
        evaluate(block);
        kernels::filter_window(block.of(C_), window_of(block), data(block.m), h + block.first);
      }
    });
    return h_MDK;
  }

  [[nodiscard]] composed::ImplicitFilterGradients backward(const at::Tensor& dh_MDK) const {
    const at::Tensor dh = dh_MDK.contiguous();
    const at::Tensor dz_KE = at::empty({K_, z_KE_.size(1)}, z_KE_.options());
    const std::int64_t blocks_each = parts(blocks(), std::min(blocks(), kMostGroups));
    const std::int64_t groups = parts(blocks(), blocks_each);
    const at::Tensor sums = empty_kept({groups, ParameterSums::count(weights_, W_)}, at::kFloat);
    at::parallel_for(0, groups, /*grain_size=*/1, [&](std::int64_t begin, std::int64_t end) {
      const at::AutoDispatchBelowADInplaceOrView below;
      const Scratch scratch(*this);
      for (std::int64_t group = begin; group < end; ++group) {
        const ParameterSums sum(sums[group].zero_(), weights_, W_);
        const std::int64_t last = std::min((group + 1) * blocks_each, blocks());
        for (std::int64_t i = group * blocks_each; i < last; ++i) {
          const Block block(scratch, i);
          evaluate(block);
          kernels::filter_window_backward(block.of(C_), window_of(block),
                                          dh.const_data_ptr<float>() + block.first, data(block.m),
                                          data(sum.deltas_C));
          propagate(block, sum, dz_KE.narrow(0, block.first, block.steps));
        }
      }
    });
    add_rows_to_the_first(sums);
    return gradients(ParameterSums(sums[0], weights_, W_), dz_KE);
  }

 private:
  /// One thread's memory for a block: per sine layer its product and activation, then the last
  /// product and two gradients of activations.
  struct Scratch {
    explicit Scratch(const BlockedFilter& filter)
        : of(filter),
          layers(at::empty({2 * filter.sines() + 2, filter.W_, filter.steps_}, at::kFloat)),
          m(empty_kept({filter.C_, filter.steps_}, at::kFloat)) {}
    const BlockedFilter& of;
    at::Tensor layers;
    at::Tensor m;
  };

  /// The steps of block i in scratch.
  struct Block {
    Block(const Scratch& scratch, std::int64_t i)
        : first(i * scratch.of.steps_),
          steps(std::min(scratch.of.steps_, scratch.of.K_ - first)),
          stride(scratch.of.steps_),
          m(scratch.m.narrow(1, 0, steps)) {
      const auto rows = scratch.layers.narrow(2, 0, steps).unbind(0);
      const auto S = static_cast<std::size_t>(scratch.of.sines());
      products.assign(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(S));
      inputs.push_back(scratch.of.z_KE_.narrow(0, first, steps).t());
      inputs.insert(inputs.end(), rows.begin() + static_cast<std::ptrdiff_t>(S), rows.end() - 2);
      da = rows[2 * S];
      next_da = rows[2 * S + 1];
    }
    [[nodiscard]] kernels::FilterBlock of(std::int64_t channels) const {
      return {.channels = channels, .steps = steps, .stride = stride};
    }

    std::int64_t first;
    std::int64_t steps;
    std::int64_t stride;
    std::vector<at::Tensor> products;  // before bias and frequency
    std::vector<at::Tensor> inputs;    // of each layer: z, then activations
    at::Tensor m;
    at::Tensor da;
    at::Tensor next_da;
  };

  static float* data(const at::Tensor& x) { return x.mutable_data_ptr<float>(); }

  [[nodiscard]] std::int64_t sines() const { return static_cast<std::int64_t>(biases_.size()); }
  [[nodiscard]] std::int64_t blocks() const { return parts(K_, steps_); }

  [[nodiscard]] kernels::FilterSine sine_of(std::size_t layer) const {
    return {.freq = freq_W_.const_data_ptr<float>(),
            .bias = biases_[layer].const_data_ptr<float>()};
  }
  [[nodiscard]] kernels::FilterWindowBlock window_of(const Block& block) const {
    const bool has_window = t_K_.defined();
    return {.t = has_window ? t_K_.const_data_ptr<float>() + block.first : nullptr,
            .deltas = has_window ? deltas_C_.const_data_ptr<float>() : nullptr,
            .shift = static_cast<float>(shift_),
            .interleaved = interleaved_,
            .filter_stride = K_};
  }

  /// Every layer up to the last product.
  void evaluate(const Block& block) const {
    for (std::size_t i = 0; i < biases_.size(); ++i) {
      multiply(weights_[i], block.inputs[i], block.products[i]);
      kernels::filter_sine(block.of(W_), sine_of(i), data(block.products[i]),
                           data(block.inputs[i + 1]));
    }
    multiply(weights_.back(), block.inputs.back(), block.m);
  }

  /// From dm, in the place of the last product, to the sums and dz.
  void propagate(const Block& block, const ParameterSums& sum, const at::Tensor& dz) const {
    multiply(block.m, block.inputs.back().t(), sum.weights.back(), /*add=*/true);
    at::Tensor da = block.da;
    at::Tensor next = block.next_da;
    multiply(weights_.back().t(), block.m, da);
    for (std::size_t i = biases_.size(); i-- > 0;) {
      kernels::filter_sine_backward(block.of(W_), sine_of(i), data(block.products[i]), data(da),
                                    data(sum.freq_W), data(sum.biases[i]));
      multiply(da, block.inputs[i].t(), sum.weights[i], /*add=*/true);
      if (i > 0) {
        multiply(weights_[i].t(), da, next);
        std::swap(da, next);
      } else {
        multiply(da.t(), weights_[0], dz);
      }
    }
  }

  /// Copies, because results of an op may not share memory.
  [[nodiscard]] composed::ImplicitFilterGradients gradients(const ParameterSums& sum,
                                                            const at::Tensor& dz_KE) const {
    composed::ImplicitFilterGradients result;
    result.z_KE = dz_KE;
    for (const at::Tensor& weight : sum.weights) {
      result.weights.push_back(weight.clone());
    }
    for (const at::Tensor& bias : sum.biases) {
      result.biases.push_back(bias.clone());
    }
    result.freq_W = sum.freq_W.clone();
    if (t_K_.defined()) {
      result.deltas_C = sum.deltas_C.clone();
    }
    return result;
  }

  at::Tensor z_KE_;
  std::vector<at::Tensor> weights_;
  std::vector<at::Tensor> biases_;
  at::Tensor freq_W_;
  at::Tensor t_K_;
  at::Tensor deltas_C_;
  double shift_;
  std::int64_t K_;
  std::int64_t W_;
  std::int64_t C_;
  std::int64_t M_;
  std::int64_t interleaved_;
  std::int64_t steps_ = 0;
};

}  // namespace

bool supports_filter(const at::Tensor& z_KE, at::TensorList weights, const FilterWindow& window) {
  return z_KE.scalar_type() == at::kFloat && !window.normalized && supports(z_KE) &&
         weights.back().numel() > 0;
}

at::Tensor implicit_filter(const at::Tensor& z_KE, at::TensorList weights, at::TensorList biases,
                           const at::Tensor& freq_W, const FilterWindow& window, std::int64_t M,
                           ChannelLayout layout) {
  return BlockedFilter(z_KE, weights, biases, freq_W, window, M, layout).forward();
}

composed::ImplicitFilterGradients implicit_filter_backward(
    const at::Tensor& dh_MDK, const at::Tensor& z_KE, at::TensorList weights, at::TensorList biases,
    const at::Tensor& freq_W, const FilterWindow& window, std::int64_t M, ChannelLayout layout) {
  return BlockedFilter(z_KE, weights, biases, freq_W, window, M, layout).backward(dh_MDK);
}

}  // namespace hyena::ops::cpu
