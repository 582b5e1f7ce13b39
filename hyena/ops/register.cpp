// The schemas of torch.ops.hyena, all in one place; each op's own file has its implementations.
#include <torch/library.h>

TORCH_LIBRARY(hyena, library) {
  // The forward ops are the public ones; the backward ops exist so that a compiler sees both
  // halves.
  library.def("short_conv(Tensor p, Tensor weight, Tensor? bias=None) -> Tensor");
  library.def(
      "short_conv_backward(Tensor dq, Tensor p, Tensor weight, bool has_bias)"
      " -> (Tensor, Tensor, Tensor)");
  library.def(
      "long_conv(Tensor u, Tensor h, Tensor? skip=None, Tensor? reverse=None,"
      " str algorithm='auto') -> Tensor");
  library.def(
      "long_conv_backward(Tensor dy, Tensor u, Tensor h, Tensor? skip, Tensor? reverse,"
      " str algorithm) -> (Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "hyena_mixer(Tensor p, Tensor short_weight, Tensor? short_bias, Tensor h,"
      " Tensor? skip=None, str mode='safari') -> Tensor");
  library.def(
      "hyena_mixer_backward(Tensor dy, Tensor p, Tensor short_weight, Tensor? short_bias, Tensor h,"
      " Tensor? skip, str mode) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "implicit_filter(Tensor z, Tensor[] weights, Tensor[] biases, Tensor freq, Tensor? t=None,"
      " Tensor? deltas=None, float shift=0., bool normalized=False, int num_filters=1,"
      " str layout='safari') -> Tensor");
  library.def(
      "implicit_filter_backward(Tensor dh, Tensor z, Tensor[] weights, Tensor[] biases, Tensor "
      "freq,"
      " Tensor? t, Tensor? deltas, float shift, bool normalized, int num_filters, str layout)"
      " -> (Tensor, Tensor[], Tensor[], Tensor, Tensor)");
}
