#include "config/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/utf8.h"

namespace echo {
namespace {

constexpr const char* kWholeNumber = "a whole number such as 8 or 3.7e9 is expected";
constexpr const char* kNumber = "a number such as 0.5 or 1e-4 is expected";

// A decimal number as written: (-1)^negative * digits * 10^exponent.
struct Decimal {
  enum class Form { other, leading_zero, number };
  Form form = Form::other;
  bool negative = false;
  std::string digits;    // without leading zeros; empty means 0
  int64_t exponent = 0;  // clamped to +-1e6, which is outside every type
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

Decimal read_decimal(std::string_view text) {
  Decimal number;
  size_t i = 0;
  if (i < text.size() && (text[i] == '-' || text[i] == '+')) number.negative = text[i++] == '-';
  const size_t whole = i;
  while (i < text.size() && is_digit(text[i])) ++i;
  const size_t whole_digits = i - whole;
  number.digits = text.substr(whole, whole_digits);
  if (i < text.size() && text[i] == '.') {
    const size_t fraction = ++i;
    while (i < text.size() && is_digit(text[i])) ++i;
    number.digits += text.substr(fraction, i - fraction);
    number.exponent = -int64_t(i - fraction);
  }
  if (number.digits.empty()) return {};
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    bool down = false;
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) down = text[i++] == '-';
    if (i == text.size()) return {};
    int64_t power = 0;
    for (; i < text.size() && is_digit(text[i]); ++i) power = std::min<int64_t>(power * 10 + (text[i] - '0'), 1'000'000);
    number.exponent += down ? -power : power;
  }
  if (i != text.size()) return {};
  number.form = whole_digits > 1 && text[whole] == '0' ? Decimal::Form::leading_zero : Decimal::Form::number;
  number.digits.erase(0, number.digits.find_first_not_of('0'));
  return number;
}

// Describes a node, for a message that continues with "; ... is expected".
std::string description(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::null:
      return "has no value";
    case YamlNode::Kind::list:
      return "a list is given";
    case YamlNode::Kind::mapping:
      return "a mapping (nested keys) is given";
    case YamlNode::Kind::scalar:
      return quote(node.text) + (node.quoted ? " in quotes is text" : "");
  }
  return "";
}

// Returns "" when `node` is an unquoted scalar, as numbers and truth values must be.
std::string plain_problem(const YamlNode& node, const char* expected) {
  if (!node.flaw.empty()) return node.flaw;
  if (node.kind != YamlNode::Kind::scalar || node.quoted) return description(node) + "; " + expected;
  return "";
}

std::string number_problem(const YamlNode& node, Decimal& number, const char* expected) {
  if (std::string problem = plain_problem(node, expected); !problem.empty()) return problem;
  number = read_decimal(node.text);
  if (number.form == Decimal::Form::leading_zero)
    return concat(quote(node.text), " begins with 0, which YAML may read as octal; write it without leading zeros");
  if (number.form == Decimal::Form::other)
    return concat(quote(node.text), " is not ", expected == kNumber ? "a finite decimal number" : "a decimal number", "; ",
                  expected, node.text.find('_') != std::string::npos ? ", without underscores" : "");
  return "";
}

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
  return text;
}

// True when YAML 1.1 or 1.2 reads this unquoted text as another type than text.
bool reads_as_other_type(const std::string& text) {
  static const std::vector<std::string> words = {"true", "false", "yes", "no",   "on",   "off",   "y",
                                                 "n",    "null",  "~",   ".nan", ".inf", "-.inf", "+.inf"};
  const std::string word = lower(text);
  if (std::find(words.begin(), words.end(), word) != words.end()) return true;
  return read_decimal(text).form != Decimal::Form::other || word.starts_with("0x") || word.starts_with("0o");
}

template <class T>
std::string read_list(const YamlNode& node, std::vector<T>& value, const char* expected) {
  if (!node.flaw.empty()) return node.flaw;
  if (node.kind != YamlNode::Kind::list) return description(node) + "; " + expected;
  std::vector<T> items(node.items.size());
  for (size_t i = 0; i < items.size(); ++i)
    if (const std::string problem = read_value(node.items[i], items[i]); !problem.empty())
      return concat("item ", i + 1, " of the list: ", problem);
  value = std::move(items);
  return "";
}

template <class T>
std::string print_list(const std::vector<T>& value) {
  std::string text = "[";
  for (const T& item : value) text += (text.size() > 1 ? ", " : "") + print_value(item);
  return text + "]";
}

}  // namespace

std::string read_value(const YamlNode& node, bool& value) {
  constexpr const char* expected = "true or false is expected";
  if (std::string problem = plain_problem(node, expected); !problem.empty()) return problem;
  if (node.text != "true" && node.text != "false") return concat(quote(node.text), " is not a truth value; ", expected);
  value = node.text == "true";
  return "";
}

std::string read_value(const YamlNode& node, int64_t& value) {
  Decimal number;
  if (std::string problem = number_problem(node, number, kWholeNumber); !problem.empty()) return problem;
  // Computed on the digits, because a double is exact only up to 2^53.
  while (!number.digits.empty() && number.digits.back() == '0') {
    number.digits.pop_back();
    ++number.exponent;
  }
  if (number.digits.empty()) {
    value = 0;
    return "";
  }
  if (number.exponent < 0) return concat(quote(node.text), " is not whole; ", kWholeNumber);
  std::string digits = number.negative ? "-" : "";
  if (number.exponent <= 20) digits += number.digits + std::string(size_t(number.exponent), '0');
  int64_t result = 0;
  if (number.exponent > 20 || std::from_chars(digits.data(), digits.data() + digits.size(), result).ec != std::errc{})
    return concat(quote(node.text), " does not fit into 64 bits; a whole number between -9223372036854775808 and ",
                  std::numeric_limits<int64_t>::max(), " is expected");
  value = result;
  return "";
}

std::string read_value(const YamlNode& node, double& value) {
  Decimal number;
  if (std::string problem = number_problem(node, number, kNumber); !problem.empty()) return problem;
  const char* begin = node.text.data() + (node.text.starts_with('+') ? 1 : 0);
  double result = 0.0;
  if (std::from_chars(begin, node.text.data() + node.text.size(), result).ec != std::errc{})
    return concat(quote(node.text), " is too ", number.exponent > 0 ? "large" : "close to 0",
                  " for a 64-bit number; a magnitude between 1e-300 and 1e300 is expected");
  value = result;
  return "";
}

std::string read_value(const YamlNode& node, std::string& value) {
  if (!node.flaw.empty()) return node.flaw;
  if (node.kind == YamlNode::Kind::null) return "has no value; text is expected, \"\" for none";
  if (node.kind != YamlNode::Kind::scalar) return description(node) + "; text is expected, in quotes if it begins like that";
  if (!node.quoted && reads_as_other_type(node.text))
    return concat(quote(node.text), " is a number or truth value in YAML; text is expected, put it in quotes");
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
  if (std::any_of(node.text.begin(), node.text.end(), is_control))
    return concat(quote(node.text), " contains a control character or a line break; one line of text is expected");
  value = node.text;
  return "";
}

std::string read_value(const YamlNode& node, std::vector<int64_t>& value) {
  return read_list(node, value, "a list of whole numbers such as [0, 1, 1] is expected");
}

std::string read_value(const YamlNode& node, std::vector<std::string>& value) {
  return read_list(node, value, "a list of texts such as [first, second] is expected");
}

std::string read_value(const YamlNode& node, std::map<std::string, double>& value) {
  constexpr const char* expected = "numbers by name such as {first: 1, second: 0.5} are expected";
  if (!node.flaw.empty()) return node.flaw;
  if (node.kind != YamlNode::Kind::mapping) return description(node) + "; " + expected;
  std::map<std::string, double> numbers;
  for (const auto& [name_node, number_node] : node.entries) {
    std::string name;
    double number = 0;
    if (const std::string problem = read_value(name_node, name); !problem.empty()) return "a name: " + problem;
    if (const std::string problem = read_value(number_node, number); !problem.empty())
      return concat(quote(name), ": ", problem);
    if (!numbers.emplace(name, number).second) return concat(quote(name), " is given twice; keep one");
  }
  value = std::move(numbers);
  return "";
}

std::string read_value(const YamlNode& node, PathList& value) {
  PathList list;
  if (node.kind == YamlNode::Kind::list) {
    if (std::string problem = read_value(node, list.entries); !problem.empty()) return problem;
    std::erase(list.entries, "");
  } else {
    std::string text;
    if (std::string problem = read_value(node, text); !problem.empty()) return problem;
    list = text;
  }
  value = std::move(list);
  return "";
}

std::string print_value(bool value) { return value ? "true" : "false"; }

std::string print_value(int64_t value) { return std::to_string(value); }

std::string print_value(double value) {
  std::string text = fmt::format("{}", value);  // the shortest text that is read as the same number
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

std::string print_value(const std::string& value) {
  const auto is_plain = [](char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '/' || c == '.' || c == '-';
  };
  const bool plain = !value.empty() && std::all_of(value.begin(), value.end(), is_plain) && value.front() != '-' &&
                     !reads_as_other_type(value);
  if (plain) return value;
  return nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string print_value(const std::vector<int64_t>& value) { return print_list(value); }

std::string print_value(const std::vector<std::string>& value) { return print_list(value); }

std::string print_value(const PathList& value) {
  return value.entries.size() > 1 ? print_list(value.entries) : print_value(value.text());
}

std::string print_value(const std::map<std::string, double>& value) {
  std::string text = "{";
  for (const auto& [name, number] : value)
    text += concat(text.size() > 1 ? ", " : "", print_value(name), ": ", print_value(number));
  return text + "}";
}

std::string quote(std::string_view text) {
  constexpr size_t longest = 60;
  std::string result = "\"";
  for (const char c : text.substr(0, longest)) result += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? ' ' : c;
  if (text.size() > longest) {
    while (!is_valid_utf8(result) && result.size() > 1) result.pop_back();  // cut inside a character
    result += "...";
  }
  return result + "\"";
}

int edit_distance(std::string_view a, std::string_view b) {
  a = a.substr(0, 100);
  b = b.substr(0, 100);
  std::vector<std::vector<int>> distance(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        distance[i][j] = int(i + j);
        continue;
      }
      distance[i][j] =
          std::min({distance[i - 1][j] + 1, distance[i][j - 1] + 1, distance[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        distance[i][j] = std::min(distance[i][j], distance[i - 2][j - 2] + 1);
    }
  }
  return distance[a.size()][b.size()];
}

std::string nearest_name(std::string_view name, const std::vector<std::string>& known) {
  int best = std::max(2, int(std::min<size_t>(name.size(), 100)) / 3) + 1;
  std::string nearest;
  for (const std::string& candidate : known) {
    const int distance = edit_distance(name, candidate);
    if (distance < best && distance < int(candidate.size())) {
      best = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

namespace detail {

int read_name(const YamlNode& node, const std::vector<std::string>& names, std::string& problem) {
  std::string expected = "one of ";
  for (size_t i = 0; i < names.size(); ++i) expected += (i == 0 ? "" : ", ") + names[i];
  expected += " is expected";
  if (!node.flaw.empty()) {
    problem = node.flaw;
  } else if (node.kind != YamlNode::Kind::scalar) {
    problem = description(node) + "; " + expected;
  } else {
    const auto found = std::find(names.begin(), names.end(), node.text);
    if (found != names.end()) return int(found - names.begin());
    const std::string nearest = nearest_name(node.text, names);
    problem = quote(node.text) + " is not known; " + expected + (nearest.empty() ? "" : "; did you mean " + nearest + "?");
  }
  return -1;
}

}  // namespace detail
}  // namespace echo
