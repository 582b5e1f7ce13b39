// Typed reading of a configuration section with errors that name the key.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hyena/io/json.h"

namespace hyena::io {

/// The numbers that a key accepts, both ends included.
struct IntegerRange {
  std::int64_t min = std::numeric_limits<std::int64_t>::min();
  std::int64_t max = std::numeric_limits<std::int64_t>::max();
};
struct NumberRange {
  double min = std::numeric_limits<double>::lowest();
  double max = std::numeric_limits<double>::max();
};
inline constexpr IntegerRange kAtLeastOne{.min = 1};
inline constexpr NumberRange kPositive{.min = std::numeric_limits<double>::denorm_min()};
inline constexpr NumberRange kFraction{.min = 0.0, .max = 1.0};

/// Reads a section into variables that hold the defaults:
///
///     io::FieldReader root(config, "");
///     io::FieldReader train = root.section("train");
///     train.read("batch_size", batch_size, io::kAtLeastOne);
///     train.read("lr", lr, io::kPositive);
///     train.finish();
///     root.finish();
///
/// read() returns true and assigns if the key is there, and returns false and leaves the variable
/// alone if not. Errors are UserErrors such as
///     train.lr: expected a number, got string 'x'
///     train.batch_size: expected an integer of at least 1, got 0
///     unknown key 'train.bacth_size', did you mean 'train.batch_size'?
/// The JSON must outlive the reader.
class FieldReader {
 public:
  /// `prefix` is the section's full name, "" for the whole configuration.
  /// @throws UserError if `section` is not an object.
  FieldReader(const Json& section, std::string prefix);

  bool read(std::string_view key, bool& value);
  bool read(std::string_view key, std::int64_t& value, IntegerRange range = {});
  bool read(std::string_view key, double& value, NumberRange range = {});  ///< integers too
  bool read(std::string_view key, std::string& value);
  /// One of `choices`; the error lists them, or names the nearest.
  bool read_choice(std::string_view key, std::string& value, std::span<const std::string> choices);
  bool read(std::string_view key, std::vector<std::int64_t>& value, IntegerRange range = {});
  bool read(std::string_view key, std::vector<double>& value, NumberRange range = {});
  /// A single string counts as a list of one.
  bool read(std::string_view key, std::vector<std::string>& value);

  /// JSON's null gives nullopt.
  template <typename T, typename... Range>
  bool read(std::string_view key, std::optional<T>& value, Range... range) {
    const Json* found = find(key);
    if (found != nullptr && found->is_null()) {
      value.reset();
      return true;
    }
    T inner{};
    const bool present = read(key, inner, range...);
    if (present) {
      value = std::move(inner);
    }
    return present;
  }

  /// A nested table; an absent one reads as empty. @throws UserError if it is not a table.
  [[nodiscard]] FieldReader section(std::string_view key);
  /// Accepts the key without reading it (known to another reader).
  void ignore(std::string_view key);
  /// The raw value of a key, or nullptr; counts as read.
  const Json* find(std::string_view key);

  /// "train.lr" for "lr".
  [[nodiscard]] std::string full_name(std::string_view key) const;

  /// @throws UserError if the section holds a key that was never asked for.
  void finish() const;

 private:
  const Json* section_;
  std::string prefix_;
  std::vector<std::string> known_;  // full names
};

}  // namespace hyena::io
