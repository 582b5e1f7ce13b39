// Parsing of JSON that somebody else wrote, for any nlohmann type. Internal to io.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include <nlohmann/json.hpp>

#include "hyena/base/error.h"

namespace hyena::io {

/// "3:14" of byte number `offset` (from 0).
[[nodiscard]] std::string line_and_column(std::string_view text, std::size_t offset);

/// Watches a parse for what the parser itself lets pass: a repeated key, and nesting beyond 100
/// levels (nlohmann parses any depth, but copies and prints recursively).
template <typename JsonType>
class JsonWatcher final : public nlohmann::json_sax<JsonType> {
 public:
  explicit JsonWatcher(std::string_view what) : what_(what) {}

  using Base = nlohmann::json_sax<JsonType>;
  bool null() override { return true; }
  bool boolean(bool /*value*/) override { return true; }
  bool number_integer(typename Base::number_integer_t /*value*/) override { return true; }
  bool number_unsigned(typename Base::number_unsigned_t /*value*/) override { return true; }
  bool number_float(typename Base::number_float_t /*value*/, const std::string& /*text*/) override {
    return true;
  }
  bool string(std::string& /*value*/) override { return true; }
  bool binary(typename Base::binary_t& /*value*/) override { return true; }
  bool start_array(std::size_t /*size*/) override { return start(); }
  bool end_array() override { return end(); }
  bool start_object(std::size_t /*size*/) override { return start(); }
  bool end_object() override { return end(); }
  bool key(std::string& key) override {
    if (!open_.back().insert(key).second) {
      throw user_error("{}: the key '{}' occurs twice", what_, one_line(key, 100));
    }
    return true;
  }
  /// Stops; the parse that follows reports it.
  bool parse_error(std::size_t /*byte*/, const std::string& /*token*/,
                   const nlohmann::json::exception& /*error*/) override {
    return false;
  }

 private:
  bool start() {
    constexpr std::size_t kMaxDepth = 100;
    open_.emplace_back();
    if (open_.size() > kMaxDepth) {
      throw user_error("{}: nested deeper than {} levels", what_, kMaxDepth);
    }
    return true;
  }
  bool end() {
    open_.pop_back();
    return true;
  }

  std::string_view what_;
  std::vector<std::unordered_set<std::string>> open_;  // keys so far; arrays stay empty
};

/// @throws UserError "<what>:<line>:<column>: ..." or "<what>: ...". Time linear in the text (a
/// parser callback instead of the watcher is quadratic: nlohmann 3.11 searches the whole parent
/// for discarded members after each one).
template <typename JsonType>
[[nodiscard]] JsonType parse_guarded(std::string_view text, std::string_view what) {
  try {
    JsonWatcher<JsonType> watcher(what);
    (void)JsonType::sax_parse(text, &watcher);
    return JsonType::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    const std::size_t offset = error.byte == 0 ? 0 : error.byte - 1;
    std::string_view reason = error.what();
    const std::size_t colon = reason.find(": ");  // behind "... at line 1, column 2"
    reason.remove_prefix(colon == std::string_view::npos ? 0 : colon + 2);
    throw user_error("{}:{}: {}", what, line_and_column(text, offset), one_line(reason, 200));
  } catch (const nlohmann::json::exception& error) {  // a number out of range
    throw user_error("{}: {}", what, one_line(error.what(), 200));
  }
}

}  // namespace hyena::io
