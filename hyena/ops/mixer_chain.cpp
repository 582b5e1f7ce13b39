#include "hyena/ops/mixer_chain.h"

#include <array>
#include <vector>

#include <ATen/ATen.h>

namespace hyena::ops::chain {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

/// Where a factor comes from: a chunk of p behind its short convolution, or one of these.
constexpr std::int64_t kOne = -1;       // the constant
constexpr std::int64_t kPrevious = -2;  // what the stage before gave

/// Output gate, input gate and input of one long convolution.
using Stage = std::array<std::int64_t, 3>;

std::vector<Stage> stages(std::int64_t M, MixerMode mode) {
  const bool safari = mode == MixerMode::kSafari;
  const std::int64_t N = safari ? M + 1 : M;
  std::vector<Stage> all;
  for (std::int64_t o = 0; o < M; ++o) {
    const std::int64_t v = o == 0 ? N : kPrevious;
    if (safari) {
      all.push_back({o == M - 1 ? 0 : kOne, N - 1 - o, v});
    } else {
      all.push_back({o, kOne, v});
    }
  }
  return all;
}

/// p, weight and bias of a stage, all 3 D channels.
struct Operands {
  at::Tensor p_BCL;
  at::Tensor weight_CT;
  at::Tensor bias_C;
};

/// The whole mixer's arguments.
struct Source {
  at::Tensor p_BCL;
  at::Tensor weight_CT;
  OptionalTensor bias_C;
  std::int64_t D;
};

Operands operands(const OrderTwo& kernel, const Source& from, const Stage& stage,
                  const at::Tensor& previous_BDL) {
  const std::int64_t D = from.D;
  const std::int64_t T = from.weight_CT.size(1);
  Operands to{kernel.empty(from.p_BCL, 3 * D), from.weight_CT.new_zeros({3 * D, T}),
              from.weight_CT.new_zeros({3 * D})};
  for (std::int64_t part = 0; part < 3; ++part) {
    const std::int64_t chunk = stage[static_cast<std::size_t>(part)];
    const auto of_part = [&](const at::Tensor& x, std::int64_t axis) {
      return x.narrow(axis, part * D, D);
    };
    if (chunk == kOne) {
      of_part(to.p_BCL, 1).zero_();  // not left alone: 0 times NaN is NaN
      of_part(to.bias_C, 0).fill_(1.0);
    } else if (chunk == kPrevious) {
      of_part(to.p_BCL, 1).copy_(previous_BDL);
      of_part(to.weight_CT, 0).select(1, T - 1).fill_(1.0);
    } else {
      of_part(to.p_BCL, 1).copy_(from.p_BCL.narrow(1, chunk * D, D));
      of_part(to.weight_CT, 0).copy_(from.weight_CT.narrow(0, chunk * D, D));
      if (from.bias_C) of_part(to.bias_C, 0).copy_(from.bias_C->narrow(0, chunk * D, D));
    }
  }
  return to;
}

Filter filter_of(const at::Tensor& h_MDK, const OptionalTensor& skip_MD, std::int64_t o) {
  return {h_MDK.narrow(0, o, 1), skip_MD ? OptionalTensor(skip_MD->narrow(0, o, 1)) : std::nullopt,
          std::nullopt};
}

at::Tensor run(const OrderTwo& kernel, const Operands& x, const Filter& filter, std::int64_t o) {
  return kernel.forward(x.p_BCL, x.weight_CT, x.bias_C, filter, o);
}

/// A long convolution alone has no chunk: its input is what came before.
constexpr Stage kNoGate = {kOne, kOne, kPrevious};

Operands ungated(const OrderTwo& kernel, const at::Tensor& u_BDL, const at::Tensor& h_DK) {
  const std::int64_t D = u_BDL.size(1);
  return operands(kernel, {u_BDL, h_DK.new_empty({D, 1}), std::nullopt, D}, kNoGate, u_BDL);
}

Filter as_filter(const at::Tensor& h_DK, const OptionalTensor& skip_D,
                 const OptionalTensor& reverse_DK) {
  const auto row = [](const OptionalTensor& x) {
    return x ? OptionalTensor(x->unsqueeze(0)) : std::nullopt;
  };
  return {h_DK.unsqueeze(0), row(skip_D), row(reverse_DK)};
}

}  // namespace

at::Tensor mixer_forward(const OrderTwo& kernel, const at::Tensor& p_BCL,
                         const at::Tensor& weight_CT, const OptionalTensor& bias_C,
                         const at::Tensor& h_MDK, const OptionalTensor& skip_MD, MixerMode mode) {
  const Source from{p_BCL, weight_CT, bias_C, h_MDK.size(1)};
  at::Tensor v_BDL;
  std::int64_t o = 0;
  for (const Stage& stage : stages(h_MDK.size(0), mode)) {
    v_BDL = run(kernel, operands(kernel, from, stage, v_BDL), filter_of(h_MDK, skip_MD, o), o);
    ++o;
  }
  return v_BDL;
}

Gradients mixer_backward(const OrderTwo& kernel, const at::Tensor& dy_BDL, const at::Tensor& p_BCL,
                         const at::Tensor& weight_CT, const OptionalTensor& bias_C,
                         const at::Tensor& h_MDK, const OptionalTensor& skip_MD, MixerMode mode) {
  const std::int64_t M = h_MDK.size(0);
  const std::int64_t D = h_MDK.size(1);
  const Source from{p_BCL, weight_CT, bias_C, D};
  const std::vector<Stage> all = stages(M, mode);
  std::vector<at::Tensor> previous_BDL(1);
  for (std::int64_t o = 0; o + 1 < M; ++o) {
    const auto i = static_cast<std::size_t>(o);
    previous_BDL.push_back(run(kernel, operands(kernel, from, all[i], previous_BDL[i]),
                               filter_of(h_MDK, skip_MD, o), o));
  }

  at::Tensor dp_BCL = kernel.empty(p_BCL, p_BCL.size(1));
  at::Tensor dweight_CT = at::empty_like(weight_CT, at::MemoryFormat::Contiguous);
  at::Tensor dbias_C = bias_C ? at::empty_like(*bias_C) : at::Tensor();
  std::vector<at::Tensor> dh(static_cast<std::size_t>(M));
  std::vector<at::Tensor> dskip(static_cast<std::size_t>(M));
  at::Tensor dv_BDL = dy_BDL;
  for (std::int64_t o = M - 1; o >= 0; --o) {
    const auto i = static_cast<std::size_t>(o);
    const Operands x = operands(kernel, from, all[i], previous_BDL[i]);
    const StageGradients d =
        kernel.backward(dv_BDL, x.p_BCL, x.weight_CT, x.bias_C, filter_of(h_MDK, skip_MD, o));
    dh[i] = d.dh_MDK;
    dskip[i] = d.dskip_MD;
    for (std::int64_t part = 0; part < 3; ++part) {
      const std::int64_t chunk = all[i][static_cast<std::size_t>(part)];
      if (chunk == kPrevious) dv_BDL = d.dp_BCL.narrow(1, part * D, D);
      if (chunk < 0) continue;
      dp_BCL.narrow(1, chunk * D, D).copy_(d.dp_BCL.narrow(1, part * D, D));
      dweight_CT.narrow(0, chunk * D, D).copy_(d.dweight_CT.narrow(0, part * D, D));
      if (bias_C) dbias_C.narrow(0, chunk * D, D).copy_(d.dbias_C.narrow(0, part * D, D));
    }
  }
  return {dp_BCL, dweight_CT, dbias_C, at::cat(dh), skip_MD ? at::cat(dskip) : at::Tensor()};
}

at::Tensor long_conv_forward(const OrderTwo& kernel, const at::Tensor& u_BDL,
                             const at::Tensor& h_DK, const OptionalTensor& skip_D,
                             const OptionalTensor& reverse_DK) {
  return run(kernel, ungated(kernel, u_BDL, h_DK), as_filter(h_DK, skip_D, reverse_DK), 0);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> long_conv_backward(
    const OrderTwo& kernel, const at::Tensor& dy_BDL, const at::Tensor& u_BDL,
    const at::Tensor& h_DK, const OptionalTensor& skip_D, const OptionalTensor& reverse_DK) {
  const Operands x = ungated(kernel, u_BDL, h_DK);
  const StageGradients d =
      kernel.backward(dy_BDL, x.p_BCL, x.weight_CT, x.bias_C, as_filter(h_DK, skip_D, reverse_DK));
  // A copy: as a view, du would keep the ones' gradients alive.
  return {d.dp_BCL.narrow(1, 2 * u_BDL.size(1), u_BDL.size(1)).clone(at::MemoryFormat::Contiguous),
          d.dh_MDK.squeeze(0), skip_D ? d.dskip_MD.squeeze(0) : at::Tensor(),
          reverse_DK ? d.dreverse_MDK.squeeze(0) : at::Tensor()};
}

}  // namespace hyena::ops::chain
