#pragma once

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>
#include <vector>

namespace echo {

// Reads `text` once from beginning to end. Each function returns the problem that it finds, or "".
class MarkupReader {
 public:
  explicit MarkupReader(std::string_view text) : text_(text) {}

  std::string problem() {
    while (at_ < text_.size()) {
      const std::string near = " near: " + std::string(text_.substr(at_, 60));
      const std::string found = next();
      if (!found.empty()) return found + near;
    }
    if (!open_.empty()) return "not closed: " + open_.back();
    return root_seen_ ? "" : "no element";
  }

 private:
  bool is(std::string_view expected) const { return text_.substr(at_, expected.size()) == expected; }
  bool at_space() const { return std::isspace(static_cast<unsigned char>(text_[at_])) != 0; }

  std::string next() {
    if (is("&")) return entity() ? "" : "unknown entity";
    if (is("<?") || is("<!DOCTYPE")) return declaration();
    if (is("<")) return tag();
    if (open_.empty() && !at_space()) return "text outside the root";
    ++at_;
    return "";
  }

  // Moves past the ';' of a known entity.
  bool entity() {
    const size_t end = text_.find(';', at_);
    if (end == std::string_view::npos || end - at_ > 8) return false;
    const std::string_view name = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return name == "amp" || name == "lt" || name == "gt" || name == "quot" || name == "#39";
  }

  std::string declaration() {
    at_ = text_.find('>', at_);
    if (at_ == std::string_view::npos || root_seen_) return "misplaced declaration";
    ++at_;
    return "";
  }

  std::string tag() {
    const bool closing = is("</");
    at_ += closing ? 2 : 1;
    const std::string name = word("");
    if (name.empty()) return "< without a tag";
    std::vector<std::string> attributes;
    while (at_ < text_.size() && !is(">") && !is("/>")) {
      if (at_space())
        ++at_;
      else if (const std::string found = attribute(attributes); !found.empty())
        return found;
    }
    if (at_ >= text_.size()) return "unfinished tag";
    const bool empty = is("/");
    at_ += empty ? 2 : 1;
    return closing ? close(name) : open(name, empty);
  }

  std::string word(std::string_view also) {
    std::string name;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || also.find(text_[at_]) < also.size()))
      name += text_[at_++];
    return name;
  }

  std::string attribute(std::vector<std::string>& seen) {
    const std::string name = word("-:");
    if (name.empty() || !is("=\"")) return "attribute without quotes";
    if (std::find(seen.begin(), seen.end(), name) != seen.end()) return "attribute given twice";
    seen.push_back(name);
    for (at_ += 2; at_ < text_.size() && !is("\"");) {
      if (is("<")) return "< in an attribute";
      if (!is("&"))
        ++at_;
      else if (!entity())
        return "unknown entity in an attribute";
    }
    ++at_;
    return "";
  }

  std::string open(const std::string& name, bool empty) {
    if (open_.empty() && root_seen_) return "second root";
    root_seen_ = true;
    if (!empty) open_.push_back(name);
    return "";
  }

  std::string close(const std::string& name) {
    if (open_.empty() || open_.back() != name) return "unexpected closing tag";
    open_.pop_back();
    return "";
  }

  std::string_view text_;
  size_t at_ = 0;
  std::vector<std::string> open_;
  bool root_seen_ = false;
};

// Checks that `text` is one well-formed XML element, after an optional declaration: tags balance, attributes are quoted and
// distinct, & begins one of XML's entities, and < appears only in tags. The content of script and style must not contain < or
// &. Returns "" or what is wrong. This is enough to find a missing escape. Names are not validated.
inline std::string markup_problem(std::string_view text) { return MarkupReader(text).problem(); }

}  // namespace echo
