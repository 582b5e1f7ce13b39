#include "hyena/io/toml.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include "hyena/base/error.h"
#include "hyena/base/text.h"
#include "hyena/io/mapped_file.h"

namespace hyena::io {
namespace {

std::string place(const toml::source_region& source) {
  return fmt::format("{}:{}", source.begin.line, source.begin.column);
}

Json to_json(const toml::node& node, std::string_view what) {
  if (const auto* table = node.as_table()) {
    // toml++ sorts keys; the source positions give back the order of the text.
    std::vector<std::pair<const toml::key*, const toml::node*>> members;
    for (const auto& [key, value] : *table) {
      members.emplace_back(&key, &value);
    }
    std::stable_sort(members.begin(), members.end(), [](const auto& a, const auto& b) {
      return a.first->source().begin < b.first->source().begin;
    });
    Json object = Json::object();
    for (const auto& [key, value] : members) {
      object[std::string(key->str())] = to_json(*value, what);
    }
    return object;
  }
  if (const auto* array = node.as_array()) {
    Json list = Json::array();
    for (const toml::node& element : *array) {
      list.push_back(to_json(element, what));
    }
    return list;
  }
  if (const auto* text = node.as_string()) {
    return text->get();
  }
  if (const auto* integer = node.as_integer()) {
    return integer->get();
  }
  if (const auto* number = node.as_floating_point()) {
    return number->get();
  }
  if (const auto* boolean = node.as_boolean()) {
    return boolean->get();
  }
  throw user_error("{}:{}: dates and times are not used here; write a string in quotes", what,
                   place(node.source()));
}

/// The value of --set: TOML where it is TOML, else the text itself.
Json override_value(std::string_view assignment, std::string_view text) {
  // The rest of the line only, so that no second key can be smuggled in.
  const bool is_one_line = text.find_first_of("\r\n") == std::string_view::npos;
  const std::string line = fmt::format("value = {}", text);
  if (is_one_line) {
    try {
      const Json parsed = parse_toml(line, "");
      if (parsed.size() == 1) {
        return parsed["value"];
      }
    } catch (const UserError&) {
      // Not TOML: a bare word, unless it was clearly meant to be a list, a table or a string.
      if (!text.empty() && std::string_view("[{\"'").find(text[0]) != std::string_view::npos) {
        throw user_error("'{}': '{}' is not a TOML value", one_line(assignment), one_line(text));
      }
    }
  }
  return std::string(text);
}

std::string toml_string(const std::string& text) {
  if (!is_utf8(text)) {
    throw user_error("cannot write TOML: '{}' is not UTF-8", one_line(text, 100));
  }
  std::string quoted = "\"";
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (code < 0x20 || code == 0x7f) {
      quoted += fmt::format("\\u{:04X}", code);
    } else {
      quoted += c;
    }
  }
  return quoted += '"';
}

std::string toml_key(const std::string& key) {
  const bool is_bare = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
  return is_bare ? key : toml_string(key);
}

std::string toml_number(double value) {
  if (std::isnan(value)) {
    return "nan";
  }
  std::string text = fmt::format("{}", value);  // shortest text that reads back to the same bits
  const bool looks_like_integer = text.find_first_of(".ein") == std::string::npos;
  return looks_like_integer ? text + ".0" : text;
}

/// A value on one line; tables become inline tables.
std::string inline_value(const Json& value, const std::string& name) {
  switch (value.type()) {
    case Json::value_t::boolean:
      return value.get<bool>() ? "true" : "false";
    case Json::value_t::number_integer:
      return fmt::format("{}", value.get<std::int64_t>());
    case Json::value_t::number_unsigned:
      if (value.get<std::uint64_t>() > INT64_MAX) {
        throw user_error("cannot write TOML: {} is beyond 2^63", name);
      }
      return fmt::format("{}", value.get<std::int64_t>());
    case Json::value_t::number_float:
      return toml_number(value.get<double>());
    case Json::value_t::string:
      return toml_string(value.get_ref<const std::string&>());
    case Json::value_t::array: {
      std::vector<std::string> parts;
      for (const Json& element : value) {
        parts.push_back(inline_value(element, name));
      }
      return fmt::format("[{}]", fmt::join(parts, ", "));
    }
    case Json::value_t::object: {
      std::vector<std::string> parts;
      for (const auto& [key, member] : value.items()) {
        if (!member.is_null()) {
          parts.push_back(fmt::format("{} = {}", toml_key(key), inline_value(member, name)));
        }
      }
      return parts.empty() ? "{}" : fmt::format("{{ {} }}", fmt::join(parts, ", "));
    }
    default:
      throw user_error("cannot write TOML: {} holds null", name);
  }
}

void write_table(const Json& table, const std::string& name, std::string& out) {
  for (const auto& [key, value] : table.items()) {
    if (!value.is_object() && !value.is_null()) {
      out += fmt::format("{} = {}\n", toml_key(key), inline_value(value, key));
    }
  }
  for (const auto& [key, value] : table.items()) {
    if (value.is_object()) {
      const std::string full = name.empty() ? toml_key(key) : name + "." + toml_key(key);
      out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", full);
      write_table(value, full, out);
    }
  }
}

}  // namespace

Json parse_toml(std::string_view text, std::string_view what) {
  try {
    return to_json(toml::parse(text), what);
  } catch (const toml::parse_error& error) {
    throw user_error("{}:{}: {}", what, place(error.source()), one_line(error.description()));
  }
}

Json read_toml(const std::filesystem::path& path) {
  const MappedFile file(path);
  return parse_toml(file.text(), path.string());
}

void apply_override(Json& config, std::string_view assignment) {
  const std::size_t equals = assignment.find('=');
  const std::string_view path = assignment.substr(0, equals);
  const bool has_empty_part = path.empty() || path.front() == '.' || path.back() == '.' ||
                              path.find("..") != std::string_view::npos;
  if (equals == std::string_view::npos || has_empty_part) {
    throw user_error("'{}': expected key=value, such as train.batch_size=8", one_line(assignment));
  }
  Json* table = &config;
  std::string_view rest = path;
  for (std::size_t dot = rest.find('.'); dot != std::string_view::npos; dot = rest.find('.')) {
    Json& next = (*table)[std::string(rest.substr(0, dot))];
    rest.remove_prefix(dot + 1);
    if (!next.is_null() && !next.is_object()) {
      const std::string_view taken = path.substr(0, path.size() - rest.size() - 1);
      throw user_error("'{}': {} is a value, not a table", one_line(assignment), taken);
    }
    table = &next;
  }
  (*table)[std::string(rest)] = override_value(assignment, assignment.substr(equals + 1));
}

std::string write_toml(const Json& config) {
  std::string text;
  write_table(config, "", text);
  return text;
}

}  // namespace hyena::io
