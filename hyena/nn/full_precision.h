// Parts of a module that mixed precision must leave alone.
#pragma once

#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace hyena::nn {

/// While it lives, autocast casts nothing: filters, exponentials and sums over thousands of
/// positions keep the dtype of their inputs.
class FullPrecision {
 public:
  FullPrecision() : no_autocast_(c10::autocast_dispatch_keyset) {}

 private:
  c10::impl::ExcludeDispatchKeyGuard no_autocast_;
};

}  // namespace hyena::nn
