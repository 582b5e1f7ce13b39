#include "hyena/nn/operators/hyena_operator.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include <torch/torch.h>

#include "hyena/base/error.h"
#include "hyena/nn/affine.h"
#include "hyena/nn/full_precision.h"
#include "hyena/nn/operators/activation.h"
#include "hyena/ops/layout.h"
#include "hyena/ops/long_conv.h"
#include "hyena/ops/short_conv.h"

namespace hyena::nn {
namespace {

void check(const HyenaOperatorOptions& options) {
  const bool safari = options.mode == ops::MixerMode::kSafari;
  const std::int64_t min_order = safari ? 2 : 1;
  if (options.order < min_order) {
    throw user_error("order: expected at least {} in {} mode, got {}", min_order,
                     ops::to_string(options.mode), options.order);
  }
  const auto at_least_one = [](const char* name, std::int64_t value) {
    if (value < 1) {
      throw user_error("{}: expected at least 1, got {}", name, value);
    }
  };
  at_least_one("d_model", options.d_model);
  at_least_one("l_max", options.l_max);
  at_least_one("short_filter_order", options.short_filter_order);
  at_least_one("inner_factor", options.inner_factor);
  at_least_one("num_heads", options.num_heads);
  at_least_one("num_blocks", options.num_blocks);
  if (options.d_model * options.inner_factor % options.num_heads != 0) {
    throw user_error("num_heads: expected a divisor of d_model * inner_factor = {}, got {}",
                     options.d_model * options.inner_factor, options.num_heads);
  }
  if (options.l_max % options.num_blocks != 0) {
    throw user_error("num_blocks: expected a divisor of l_max = {}, got {}", options.l_max,
                     options.num_blocks);
  }
  if (!(options.dropout >= 0.0 && options.dropout < 1.0)) {
    throw user_error("dropout: expected a probability in [0, 1), got {}", options.dropout);
  }
  check_activation(options.activation);
}

/// Whether time is contiguous between the projections: on CUDA, unless sequences are so short that
/// a product for each costs more than the copies it saves (affine_to_rows).
bool has_rows(const at::Tensor& u_BLD) {
  return u_BLD.is_cuda() && u_BLD.size(1) >= u_BLD.size(2);
}

/// `u` with zeros behind it, so that rows are whole vectors: products whose rows are not cost twice
/// as much. What comes before does not see them.
at::Tensor whole_rows(const at::Tensor& u_BLD) {
  const std::int64_t L = u_BLD.size(1);
  const std::int64_t row = ops::padded_row(L).expect_int();
  return row == L ? u_BLD : at::constant_pad_nd(u_BLD, {0, 0, 0, row - L});
}

at::Tensor first_taps(const PreparedFilters& filters, std::int64_t length) {
  const at::Tensor& h_MDK = filters.h();
  return h_MDK.narrow(2, 0, std::min(length, h_MDK.size(2)));
}

std::optional<at::Tensor> row(const std::optional<at::Tensor>& x_MD, std::int64_t o) {
  return x_MD ? std::optional<at::Tensor>(x_MD->select(0, o)) : std::nullopt;
}

}  // namespace

HyenaOperatorImpl::HyenaOperatorImpl(const HyenaOperatorOptions& options) : options_(options) {
  check(options);
  inner_ = options.d_model * options.inner_factor;
  const std::int64_t C = (options.order + 1) * inner_;
  const std::int64_t T = options.short_filter_order;
  in_proj_ = register_module("in_proj", torch::nn::Linear(options.d_model, C));
  out_proj_ = register_module("out_proj", torch::nn::Linear(inner_, options.d_model));
  // A module of our own under Conv1d's names: only its parameters are used.
  auto short_filter =
      register_module("short_filter", std::make_shared<torch::nn::Module>("short_filter"));
  const double bound = 1.0 / std::sqrt(static_cast<double>(T));  // Conv1d's default, fan_in = T
  short_weight_ =
      short_filter->register_parameter("weight", at::empty({C, 1, T}).uniform_(-bound, bound));
  short_bias_ = short_filter->register_parameter("bias", at::empty({C}).uniform_(-bound, bound));

  HyenaFilterOptions& filter = options_.filter;
  filter.channels = inner_ / options.num_heads;
  filter.num_filters = options.mode == ops::MixerMode::kSafari ? options.order - 1 : options.order;
  filter.l_max = options.l_max;
  FilterOptions& other = options_.other_filter;
  other.channels = filter.channels;
  other.num_filters = filter.num_filters;
  other.l_max = filter.l_max;
  filter_ = register_module("filter_fn", make_filter(options.filter_name, filter, other));
  if (options.post_order_ffn) {
    const std::int64_t H = options.num_heads;
    const std::int64_t inner_of_head = inner_ / H;
    const auto head_dim = static_cast<double>(inner_of_head);
    ord_proj_w_ =
        register_parameter("ord_proj_w", at::randn({options.order, H, H}) / std::sqrt(head_dim));
  }
}

bool HyenaOperatorImpl::is_plain() const {
  return options_.num_blocks == 1 && !options_.outer_mixing && !options_.post_order_ffn &&
         !(options_.dropout > 0.0 && is_training());
}

at::Tensor HyenaOperatorImpl::per_head(const at::Tensor& x_MD) const {
  // (M, D'/H, ...) to (M, D', ...): every head sees the same filters.
  const std::int64_t H = options_.num_heads;
  if (H == 1 || !x_MD.defined()) {
    return x_MD;
  }
  std::vector<std::int64_t> repeats(static_cast<std::size_t>(x_MD.dim()), 1);
  repeats[1] = H;
  return x_MD.repeat(repeats);
}

void HyenaOperatorImpl::train(bool on) {
  if (on) {
    cache_.clear();
  }
  Mixer::train(on);
}

at::Tensor HyenaOperatorImpl::project(const at::Tensor& u_BLD) {
  return has_rows(u_BLD) ? affine_to_rows(in_proj_, u_BLD)
                         : affine(in_proj_, u_BLD).transpose(1, 2);
}

FilterCache::Shared HyenaOperatorImpl::prepared_filters(std::int64_t length) {
  const FullPrecision no_autocast;
  const auto make = [this](std::int64_t taps) {
    const at::Tensor skip_MD = skip();
    return std::make_shared<const PreparedFilters>(
        per_head(filter_->filters(taps)),
        skip_MD.defined() ? std::optional(skip_MD) : std::nullopt);
  };
  if (is_training()) {
    return make(std::max<std::int64_t>(length, 1));  // no filter has no taps
  }
  std::vector<at::Tensor> sources = filter_->parameters();
  const std::vector<at::Tensor> buffers = filter_->buffers();
  sources.insert(sources.end(), buffers.begin(), buffers.end());
  return cache_.get(sources, length, options_.l_max, make);
}

at::Tensor HyenaOperatorImpl::filters(std::int64_t length) {
  return first_taps(*prepared_filters(length), length);
}

at::Tensor HyenaOperatorImpl::skip() {
  return per_head(filter_->skip());
}

at::Tensor HyenaOperatorImpl::forward(const at::Tensor& u_BLD) {
  const std::int64_t L = u_BLD.size(1);
  if (L > options_.l_max) {
    throw user_error("sequence of {} positions is longer than the model's l_max = {}", L,
                     options_.l_max);
  }
  const bool pads = is_plain() && has_rows(u_BLD);
  const at::Tensor p_BCL = project(pads ? whole_rows(u_BLD) : u_BLD);
  at::Tensor y_BDL;
  if (is_plain()) {
    const auto filters = prepared_filters(L);
    const at::Tensor short_weight_CT = short_weight_.squeeze(1);
    // In training a spectrum serves one call, and the op makes it where it uses it.
    const bool keeps_spectra = !is_training() && !c10::GradMode::is_enabled();
    y_BDL = keeps_spectra
                ? ops::hyena_mixer_prepared(p_BCL, short_weight_CT, short_bias_, *filters,
                                            options_.mode)
                : ops::hyena_mixer(p_BCL, short_weight_CT, short_bias_, first_taps(*filters, L),
                                   filters->skip(), options_.mode);
  } else {
    y_BDL = mix_in_pieces(p_BCL);
  }
  const at::Tensor activated_BDL = activate(options_.activation, y_BDL);
  return has_rows(u_BLD) ? affine_from_rows(out_proj_, activated_BDL).narrow(1, 0, L)
                         : affine(out_proj_, activated_BDL.transpose(1, 2));
}

at::Tensor HyenaOperatorImpl::mix_in_pieces(const at::Tensor& p_BCL) {
  const std::int64_t L = p_BCL.size(2);
  const std::int64_t N = options_.order;
  const bool safari = options_.mode == ops::MixerMode::kSafari;
  if (L % options_.num_blocks != 0) {
    throw user_error("num_blocks: expected a divisor of the sequence length {}, got {}", L,
                     options_.num_blocks);
  }
  const std::int64_t block = L / options_.num_blocks;
  const auto filters = prepared_filters(block);
  const at::Tensor h_MDK = first_taps(*filters, block);  // the first taps only: 1.5
  const auto q = ops::short_conv(p_BCL, short_weight_.squeeze(1), short_bias_).split(inner_, 1);
  const auto gate = [&](std::int64_t i, bool of_convolution) {
    const at::Tensor& x = q[static_cast<std::size_t>(i)];
    if (!options_.outer_mixing || !of_convolution) {
      return x;
    }
    const std::int64_t H = options_.num_heads;
    return x.unflatten(1, {H, inner_ / H})
        .sum(2, /*keepdim=*/true)
        .expand({-1, -1, inner_ / H, -1})
        .flatten(1, 2);
  };
  const auto dropout = [&](const at::Tensor& x) {
    return at::dropout(x, options_.dropout, is_training());
  };
  at::Tensor v = q[static_cast<std::size_t>(N)];
  for (std::int64_t o = 0; o < h_MDK.size(0); ++o) {
    if (safari) {
      v = convolve(dropout(v * gate(N - 1 - o, true)), o, h_MDK, filters->skip());
    } else {
      v = gate(o, true) * convolve(dropout(v), o, h_MDK, filters->skip());
    }
  }
  return safari ? v * gate(0, false) : v;
}

at::Tensor HyenaOperatorImpl::convolve(const at::Tensor& v_BDL, std::int64_t o,
                                       const at::Tensor& h_MDK,
                                       const std::optional<at::Tensor>& skip_MD) {
  const std::int64_t z = options_.num_blocks;
  at::Tensor v = v_BDL;
  if (z > 1) {  // blocks become batch rows
    v = v.unflatten(2, {z, v.size(2) / z}).transpose(1, 2).flatten(0, 1);
  }
  v = ops::long_conv(v, h_MDK.select(0, o), row(skip_MD, o));
  if (z > 1) {
    v = v.unflatten(0, {v_BDL.size(0), z}).transpose(1, 2).flatten(2, 3);
  }
  if (options_.post_order_ffn) {
    const std::int64_t H = options_.num_heads;
    const at::Tensor heads = v.unflatten(1, {H, inner_ / H});
    v = at::einsum("bivl,ij->bjvl", {heads, ord_proj_w_.select(0, o).to(v.scalar_type())})
            .flatten(1, 2);
  }
  return v;
}

}  // namespace hyena::nn
