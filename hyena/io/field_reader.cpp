#include "hyena/io/field_reader.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "hyena/base/error.h"
#include "hyena/base/text.h"

namespace hyena::io {
namespace {

/// "string 'x'", "3", "a list": what came, in an error.
std::string described(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::string:
      return fmt::format("string '{}'", one_line(value.get_ref<const std::string&>(), 100));
    case Json::value_t::array:
      return "a list";
    case Json::value_t::object:
      return "a table";
    case Json::value_t::number_float:  // "3.0" is no integer, and must not be shown as "3"
      return std::isfinite(value.get<double>()) ? value.dump()
                                                : fmt::format("{}", value.get<double>());
    default:
      return value.dump();
  }
}

std::string expectation(IntegerRange range) {
  const IntegerRange all;
  if (range.min == all.min && range.max == all.max) {
    return "an integer";
  }
  if (range.max == all.max) {
    return fmt::format("an integer of at least {}", range.min);
  }
  if (range.min == all.min) {
    return fmt::format("an integer of at most {}", range.max);
  }
  return fmt::format("an integer from {} to {}", range.min, range.max);
}

std::string expectation(NumberRange range) {
  const NumberRange all;
  const bool is_positive = range.min == kPositive.min;
  const std::string above = is_positive ? "above 0" : fmt::format("of at least {}", range.min);
  if (range.min == all.min && range.max == all.max) {
    return "a number";
  }
  if (range.max == all.max) {
    return "a number " + above;
  }
  if (range.min == all.min) {
    return fmt::format("a number of at most {}", range.max);
  }
  return is_positive ? fmt::format("a number above 0 and at most {}", range.max)
                     : fmt::format("a number from {} to {}", range.min, range.max);
}

[[noreturn]] void fail(const std::string& name, const std::string& expected, const Json& got) {
  throw user_error("{}: expected {}, got {}", name, expected, described(got));
}

std::int64_t to_integer(const Json& value, const std::string& name, IntegerRange range) {
  const bool fits = value.is_number_unsigned() ? value.get<std::uint64_t>() <= INT64_MAX
                                               : value.is_number_integer();
  if (!fits || value.get<std::int64_t>() < range.min || value.get<std::int64_t>() > range.max) {
    fail(name, expectation(range), value);
  }
  return value.get<std::int64_t>();
}

double to_number(const Json& value, const std::string& name, NumberRange range) {
  // Not-a-number and infinities fail both comparisons of the widest range.
  const double number = value.is_number() ? value.get<double>() : std::nan("");
  if (!(number >= range.min && number <= range.max)) {
    fail(name, expectation(range), value);
  }
  return number;
}

std::string to_text(const Json& value, const std::string& name) {
  if (!value.is_string()) {
    fail(name, "a string", value);
  }
  return value.get<std::string>();
}

template <typename T, typename Convert>
std::vector<T> to_list(const Json& value, const std::string& name, const char* expected,
                       Convert convert) {
  if (!value.is_array()) {
    fail(name, expected, value);
  }
  std::vector<T> list;
  for (std::size_t i = 0; i < value.size(); ++i) {
    list.push_back(convert(value[i], fmt::format("{}[{}]", name, i)));
  }
  return list;
}

}  // namespace

FieldReader::FieldReader(const Json& section, std::string prefix)
    : section_(&section), prefix_(std::move(prefix)) {
  if (!section.is_object()) {
    fail(prefix_.empty() ? "configuration" : prefix_, "a table", section);
  }
}

std::string FieldReader::full_name(std::string_view key) const {
  return prefix_.empty() ? std::string(key) : fmt::format("{}.{}", prefix_, key);
}

void FieldReader::ignore(std::string_view key) {
  known_.push_back(full_name(key));
}

const Json* FieldReader::find(std::string_view key) {
  ignore(key);
  const auto found = section_->find(std::string(key));
  return found == section_->end() ? nullptr : &*found;
}

bool FieldReader::read(std::string_view key, bool& value) {
  const Json* found = find(key);
  if (found != nullptr) {
    if (!found->is_boolean()) {
      fail(full_name(key), "true or false", *found);
    }
    value = found->get<bool>();
  }
  return found != nullptr;
}

bool FieldReader::read(std::string_view key, std::int64_t& value, IntegerRange range) {
  const Json* found = find(key);
  if (found != nullptr) {
    value = to_integer(*found, full_name(key), range);
  }
  return found != nullptr;
}

bool FieldReader::read(std::string_view key, double& value, NumberRange range) {
  const Json* found = find(key);
  if (found != nullptr) {
    value = to_number(*found, full_name(key), range);
  }
  return found != nullptr;
}

bool FieldReader::read(std::string_view key, std::string& value) {
  const Json* found = find(key);
  if (found != nullptr) {
    value = to_text(*found, full_name(key));
  }
  return found != nullptr;
}

bool FieldReader::read_choice(std::string_view key, std::string& value,
                              std::span<const std::string> choices) {
  const Json* found = find(key);
  if (found != nullptr) {
    std::string text = to_text(*found, full_name(key));
    if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
      throw user_error("{}: expected one of {}, got '{}'{}", full_name(key),
                       fmt::join(choices, ", "), one_line(text, 100), did_you_mean(text, choices));
    }
    value = std::move(text);
  }
  return found != nullptr;
}

bool FieldReader::read(std::string_view key, std::vector<std::int64_t>& value, IntegerRange range) {
  const Json* found = find(key);
  if (found != nullptr) {
    value = to_list<std::int64_t>(
        *found, full_name(key), "a list of integers",
        [&](const Json& item, const std::string& name) { return to_integer(item, name, range); });
  }
  return found != nullptr;
}

bool FieldReader::read(std::string_view key, std::vector<double>& value, NumberRange range) {
  const Json* found = find(key);
  if (found != nullptr) {
    value = to_list<double>(
        *found, full_name(key), "a list of numbers",
        [&](const Json& item, const std::string& name) { return to_number(item, name, range); });
  }
  return found != nullptr;
}

bool FieldReader::read(std::string_view key, std::vector<std::string>& value) {
  const Json* found = find(key);
  if (found != nullptr && found->is_string()) {
    value = {found->get<std::string>()};
  } else if (found != nullptr) {
    value = to_list<std::string>(*found, full_name(key), "a list of strings", to_text);
  }
  return found != nullptr;
}

FieldReader FieldReader::section(std::string_view key) {
  static const Json kEmpty = Json::object();
  const Json* found = find(key);
  return {found == nullptr ? kEmpty : *found, full_name(key)};
}

void FieldReader::finish() const {
  for (const auto& [key, value] : section_->items()) {
    const std::string name = full_name(key);
    if (std::find(known_.begin(), known_.end(), name) == known_.end()) {
      throw user_error("unknown key '{}'{}", one_line(name, 200), did_you_mean(name, known_));
    }
  }
}

}  // namespace hyena::io
